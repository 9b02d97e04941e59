"""Drawings of a model: they show what is trained, all of it and nothing else; their words fit into their boxes."""

import json
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from specimens import CASES, snapshot, tiny_model, tiny_peft

from minipeft import GPT2, METHODS, GPT2Config, LoRA, Parameter, Stack, Wrapper, get_peft_model
from minipeft.lab.diagram import draw, draw_attention, draw_lora, draw_methods, draw_outer
from minipeft.lab.drawing.shapes import typeset
from minipeft.lab.picture import FROZEN, TRAINED
from minipeft.methods import IA3, Adapter, Beside, DoRA, LastBlocks, PrefixTuning, PromptTuning, VeRA
from minipeft.methods.lora import LoRALinear
from minipeft.model.functional import matmul, outer


class MyLoRA(Beside):
    """A reader's own, of lesson 06."""

    def __init__(self, base):
        super().__init__(base)
        d_in, d_out = base.shape
        self.A, self.B = Parameter(np.ones((d_in, 3))), Parameter(np.zeros((3, d_out)))

    def path(self, x):
        h = matmul(x, self.A.data)

        def backward(dy):
            dh = matmul(dy, self.B.data.T)
            self.A.add_grad(outer, x, dh)
            self.B.add_grad(outer, h, dy)
            return matmul(dh, self.A.data.T)

        return matmul(h, self.B.data), backward


class Gate(Wrapper):
    """A reader's own that is neither beside a layer nor after it."""

    def __init__(self, base):
        super().__init__(base)
        self.gate = Parameter(np.ones(()))

    def forward(self, *inputs):
        return self.base(*inputs)


def is_drawn(artist):
    return (artist.get_gid() or "").startswith("trained ")


def coloured(picture):
    """Patches that stand for something trained, [(patch, paths)]."""
    return [(one, one.get_gid().split()[1:]) for one in picture.figure.findobj(is_drawn)]


def blue_ones(picture):
    """The boxes in the colour of what is trained that say of nothing that they stand for it: the legend's only."""
    return [
        one
        for one in picture.figure.axes[0].patches
        if to_hex(one.get_facecolor()) == TRAINED.lower() and not is_drawn(one)
    ]


def trained(model):
    return {id(p) for _, p in model.named_parameters() if p.requires_grad}


def texts_of(picture):
    return [one for one in picture.figure.findobj(Text) if one.get_text()]


def said(picture):
    return {one.get_text() for one in texts_of(picture)}


def collisions(picture):
    """Words that lie over other words, stick out of a box, stand on a wire, or leave the page."""
    picture.figure.draw_without_rendering()  # lays the page out
    renderer, found = picture.figure.canvas.get_renderer(), []
    axes, page = picture.figure.axes[0], picture.figure.bbox
    boxes = [one for one in axes.patches if one.get_facecolor()[3]]
    boxes = [(one, one.get_transform().transform_path(one.get_path())) for one in boxes]
    boxes = [(one, path, path.get_extents()) for one, path in boxes]
    wires = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    texts = [(one, one.get_window_extent(renderer)) for one in texts_of(picture)]
    for i, (one, extent) in enumerate(texts):
        name, tight = repr(one.get_text()), extent.padded(-0.6)  # two may touch
        if min(extent.x0, extent.y0) < 0 or extent.x1 > page.x1 or extent.y1 > page.y1:
            found.append(f"{name} leaves the page")
        found += [f"{name} over {two.get_text()!r}" for two, other in texts[i + 1 :] if tight.overlaps(other)]
        near = [(patch, path) for patch, path, around in boxes if tight.overlaps(around)]
        inside = [patch for patch, path in near if path.contains_points(tight.corners()).all()]
        found += [f"{name} sticks out of {patch}" for patch, path in near
                  if patch not in inside and path.intersects_bbox(tight, filled=True)]  # fmt: skip
        if not one.get_bbox_patch() and not any(patch.get_zorder() >= 2 for patch in inside):  # wires run below boxes
            found += [f"{name} on a wire" for path in wires if path.intersects_bbox(tight, filled=False)]
    return found


@pytest.mark.parametrize("case", CASES)
def test_all_that_is_trained_is_coloured_and_nothing_else(case):
    model = tiny_peft(case)
    paths = {path: id(node) for path, node in model.walk()}
    picture = draw(model)
    drawn = [paths[path] for _, found in coloured(picture) for path in found]
    kinds = 1 + picture.alt.count("; block ")
    assert set(drawn) == {
        id(p) for path, p in model.named_parameters() if p.requires_grad and (seen(path, model, kinds))
    }
    assert all(to_hex(patch.get_facecolor()) == TRAINED.lower() for patch, _ in coloured(picture))
    assert len(blue_ones(picture)) == 1
    assert collisions(picture) == []


def seen(path, model, kinds):
    """Is this parameter's block drawn?  With one kind of block it is block 0."""
    return not path.startswith("h.") or kinds > 1 or path.startswith("h.0.")


# the cases that look different from each other
LOOKS = [case for case in CASES if not any(word in case for word in ("dropout", "rslora", "detach", "double", "-r-3"))]


@pytest.mark.parametrize("case", LOOKS)
def test_with_amounts_every_block_is_drawn_and_every_number_fits(case):
    model = tiny_peft(case)
    paths = {path: id(node) for path, node in model.walk()}
    picture = draw(model, amount=True)
    assert {paths[path] for _, found in coloured(picture) for path in found} == trained(model)
    assert collisions(picture) == []
    assert "Most: " in picture.alt


@pytest.mark.parametrize("name", METHODS)
def test_alone_and_small_every_method_fits(name):
    assert collisions(draw_methods({name: tiny_peft(name), "base": tiny_model()})) == []
    assert collisions(draw(tiny_peft(name), block=1)) == []


def test_a_frozen_model_is_grey():
    model = tiny_model().requires_grad_(False)
    picture = draw(model)
    assert coloured(picture) == []
    assert blue_ones(picture) == []
    faces = {to_hex(patch.get_facecolor()) for patch in picture.figure.axes[0].patches if patch.get_zorder() == 2}
    assert faces == {FROZEN}
    assert "Nothing is trained" in picture.alt
    assert "frozen: nothing is trained" in said(picture)


WORDS = {
    "lora": "LoRA of rank 8 on q_proj and v_proj of each of 2 blocks",
    "lora-B": "LoRA of rank 2, A frozen, on q_proj and v_proj",
    "lora-targets": "LoRA of rank 2 on o_proj and c_fc of block 0; LoRA of rank 2 on o_proj, c_fc and c_proj of block 1",
    "loraplus": "LoRA of rank 8 on",
    "dora": "DoRA of rank 8, and a length m for each column, on q_proj and v_proj",
    "vera": "VeRA of rank 64, its matrices A and B frozen and shared, two vectors trained, on q_proj and v_proj",
    "ia3": "A vector that scales the output of k_proj and v_proj of each of 2 blocks; a vector that scales the input of",
    "qlora": "4 bits a number in q_proj, k_proj, v_proj, o_proj, c_fc and c_proj of each of 2 blocks",
    "adapter": "Adapters of width 16 after attention and the MLP of each of 2 blocks",
    "adapter-parallel": "Adapters of width 3 beside the MLP",
    "adapter-block": "Adapters of width 3 after the whole block of each of 2 blocks",
    "prefix": "a prefix of 8 keys and 8 values in attention of each of 2 blocks",
    "prefix-net": "a prefix of 3 keys and 3 values, written by a network, in attention",
    "prompt": "A prompt of 8 rows before wte",
    "bitfit": "bias of q_proj, k_proj, v_proj, o_proj, c_fc and c_proj of each of 2 blocks",
    "layernorm": "Gain of ln_1 and ln_2 of each of 2 blocks; gain of ln_f; shift of ln_1 and ln_2 of each of 2 blocks",
    "lastk": "All of block 1 is trained",
    "full": "All numbers of the base are trained",
    "stack": "adapters of width 2 beside the MLP of each of 2 blocks",
    "stack-scaled": "DoRA of rank 2, and a length m for each column, on q_proj and v_proj of each of 2 blocks",
    "stack-twice": "adapters of width 3 after the whole block and the MLP of block 1",
}


@pytest.mark.parametrize("case", dict.fromkeys([*WORDS, *METHODS]))  # one that is not here has the words of its layers
def test_alt_text_says_what_is_in_the_model(case):
    model = tiny_peft(case)
    alt = draw(model).alt
    assert WORDS.get(case, "") in alt
    numbers = sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
    assert f"{numbers:,} of " in alt


def test_the_count_of_all_numbers_is_the_bases_and_what_was_added():
    base = sum(p.data.size for _, p in tiny_model().named_parameters())
    for case in ("lora", "qlora"):  # the second keeps its weights outside of Parameters
        model = tiny_peft(case)
        added = sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
        assert f"{added:,} of {base + added:,} numbers are trained" in draw(model).alt


def test_sizes_stand_in_the_drawing():
    assert {"A", "8 × 2", "B", "2 × 8"} <= said(draw(tiny_peft("lora-A"))) | said(draw(tiny_peft("lora-targets")))
    assert {"8 × 16 + 16", "16 × 8 + 8"} <= said(draw(tiny_peft("adapter")))
    assert {typeset("P_k"), typeset("P_v"), "8 × 8", "wpe, from row 8 on"} <= said(draw(tiny_peft("prefix")))
    assert {"4 bits"} <= said(draw(tiny_peft("qlora")))


@pytest.mark.parametrize(
    "method",
    [LoRA(r=2), LoRA(r=2, targets="*.q_proj"), IA3(), DoRA(r=2), IA3(targets="*.v_proj", feedforward="*.q_proj")],
    ids=repr,
)
def test_the_three_linears_stand_at_one_height(method):
    model = get_peft_model(tiny_model(), method)
    for picture in (draw(model), draw_methods({"it": model})):
        heights = [one.get_position()[1] for one in texts_of(picture) if re.fullmatch("[qkv](_proj)?", one.get_text())]
        assert len(heights) == 3
        np.testing.assert_allclose(heights, heights[0])


def test_a_readers_own_wrappers_are_drawn():
    model = tiny_model().requires_grad_(False)
    model.wrap("*.q_proj", MyLoRA)
    model.wrap(("*.mlp", "*.core", "wte", "wpe", "ln_f", "h.[01]"), Gate)
    picture = draw(model)
    count = {name: sum(one.get_text() == name for one in texts_of(picture)) for name in ("MyLoRA", "Gate")}
    assert count == {"MyLoRA": 1, "Gate": 6}
    assert {"A  8 × 3", "B  3 × 8"} <= said(picture)
    assert collisions(picture) == []
    assert "MyLoRA (A 8 × 3, B 3 × 8) on q_proj of each of 2 blocks" in picture.alt
    drawn = {path for _, found in coloured(picture) for path in found}
    assert drawn == {path for path, p in model.named_parameters() if p.requires_grad and not path.startswith("h.1.")}


def test_what_a_subclass_brings_beside_its_known_parts_is_drawn_too():
    class Gated(LoRALinear):
        def __init__(self, base):
            super().__init__(base, 2, 4, 0.0, np.random.default_rng(0))
            self.gate = Parameter(np.ones(1))

    model = tiny_model().requires_grad_(False)
    model.wrap("h.*.q_proj", Gated)
    picture = draw(model)
    assert {"Gated", "gate  1", "8 × 2"} <= said(picture)
    assert any("h.0.attn.q_proj.gate" in found for _, found in coloured(picture))


def test_a_wrapper_that_trains_nothing_is_grey():
    model = tiny_model().requires_grad_(False)
    model.wrap("*.q_proj", lambda layer: Gate(layer).requires_grad_(False))
    picture = draw(model)
    assert coloured(picture) == []
    assert "Gate" in said(picture)


def four_blocks():
    return GPT2(GPT2Config(13, 16, 8, 4, 2))


def titles(picture):
    return sorted(text for text in said(picture) if "block" in text)


def test_blocks_that_differ_stand_side_by_side():
    assert titles(draw(four_blocks())) == ["each of 4 blocks"]
    assert titles(draw(get_peft_model(four_blocks(), LastBlocks(k=1)))) == ["block 3", "blocks 0 to 2"]
    mixed = get_peft_model(four_blocks(), LoRA(r=2, targets=("h.0.*.q_proj", "h.2.*.q_proj")))
    assert titles(draw(mixed)) == ["blocks 0 and 2", "blocks 1 and 3"]
    assert titles(draw(mixed, block=2)) == ["block 2"]
    assert titles(draw(mixed, amount=True)) == ["block 0", "block 1", "block 2", "block 3"]


def test_ranks_that_differ_are_blocks_that_differ():
    model = get_peft_model(
        four_blocks(), Stack((LoRA(r=2, targets="h.0.*.q_proj"), LoRA(r=3, targets="h.[123].*.q_proj")))
    )
    assert titles(draw(model)) == ["block 0", "blocks 1 to 3"]


def test_more_blocks_than_fit_go_into_rows():
    wide = draw(get_peft_model(four_blocks(), LoRA(r=2)), amount=True)
    three = draw(get_peft_model(GPT2(GPT2Config(13, 16, 8, 3, 2)), LoRA(r=2)), amount=True)
    assert wide.figure.get_size_inches()[0] == three.figure.get_size_inches()[0]
    assert wide.figure.get_size_inches()[1] > 1.8 * three.figure.get_size_inches()[1] - 0.5
    assert collisions(wide) == []


def test_amounts_are_those_of_the_weights():
    model = get_peft_model(tiny_model(), LoRA(r=2, targets="h.*.q_proj"))
    lora = model.h[0].attn.q_proj
    lora.B.data[...] = 1
    change = np.linalg.norm(lora.delta()) / np.linalg.norm(lora.base.matrix())
    picture = draw(model, amount=True)
    assert {f"ΔW {change:.1%}", "ΔW 0.0%"} <= said(picture)
    faces = {path: to_hex(patch.get_facecolor()) for patch, (path,) in coloured(picture)}
    assert faces["h.0.attn.q_proj.A"] == faces["h.0.attn.q_proj.B"] == TRAINED.lower()
    assert faces["h.1.attn.q_proj.A"] not in (TRAINED.lower(), FROZEN)
    assert f"Most: ΔW {change:.1%}, q_proj of block 0; least: ΔW 0.0%, q_proj of block 1." in picture.alt


def test_amounts_of_a_prefix_and_of_the_bases_own():
    model = get_peft_model(tiny_model(), PrefixTuning(m=2))
    norm = np.linalg.norm(model.h[1].attn.core.P_v.data)
    assert f"‖·‖ {norm:.2g}" in said(draw(model, amount=True))
    model = get_peft_model(tiny_model(), LastBlocks(k=1))
    W = model.h[1].mlp.c_fc.weight
    W.data[...] *= 1.5
    assert "Δ 50.0%" in said(draw(model, amount=True))


def test_adapters_and_networks_change_by_what_they_compute():
    model = tiny_peft("adapter-mlp")
    adapter = model.h[0].mlp.adapter
    norm = np.linalg.norm(adapter.down.matrix() @ adapter.up.matrix())
    assert f"‖down up‖ {norm:.2g}" in said(draw(model, amount=True))
    model = tiny_peft("prefix-net")
    P = np.hstack(list(model.h[0].attn.core.own_arrays().values()))
    picture = draw(model, amount=True)
    assert f"‖[{typeset('P_k')} {typeset('P_v')}]‖ {np.linalg.norm(P):.2g}" in said(picture)
    assert "‖[P_k P_v]‖" in picture.alt


def test_four_methods_side_by_side_for_a_page():
    config = GPT2Config(96, 128, 96, 3, 4)
    methods = {"LoRA": LoRA(r=8), "adapter": Adapter(m=16), "prefix": PrefixTuning(m=8), "prompt": PromptTuning(m=8)}
    models = {name: get_peft_model(GPT2(config), method) for name, method in methods.items()}
    picture = draw_methods(models)
    assert picture.figure.get_size_inches()[0] * 100 < 910
    assert collisions(picture) == []
    for name, model in models.items():
        assert name in said(picture)
        count = sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
        assert any(text.startswith(f"{count:,} trained") for text in said(picture))
        assert f"{name}: " in picture.alt


def test_frozen_random_matrices_are_hatched_and_grey():
    picture = draw(get_peft_model(tiny_model(), VeRA(r=2)))
    hatched = [patch for patch in picture.figure.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == 4
    assert all(to_hex(patch.get_facecolor()) == FROZEN for patch in hatched)


def test_drawing_changes_nothing():
    model = tiny_peft("stack")
    before = snapshot(model)
    draw(model, amount=True)
    assert snapshot(model) == before


@pytest.mark.parametrize("thing", [None, 3, tiny_model().h[0], LoRA()])
def test_what_is_no_model_is_refused(thing):
    with pytest.raises(TypeError, match="list of blocks"):
        draw(thing)


@pytest.mark.parametrize("things", [{}, [tiny_model()], {"LoRA": None}])
def test_models_without_names_are_refused(things):
    with pytest.raises(TypeError, match="needed"):
        draw_methods(things)


@pytest.mark.parametrize("block", [-1, 2, "0", 0.5, True])
def test_a_block_that_is_not_there_is_refused(block):
    with pytest.raises(ValueError, match=r"0 \.\.\. 1"):
        draw(tiny_model(), block=block)


LANES = {
    "lora": lambda: draw_lora(),
    "lora, open": lambda: draw_lora(solved=False),
    "lora, forward": lambda: draw_lora(96, 384, 8, backward=False),
    "lora, numbers": lambda: draw_lora(384, 96, 8),
    "lora, high rank": lambda: draw_lora(64, 64, 64),
    "lora, large": lambda: draw_lora(4096, 16384, 256),
} | {
    f"attention {T} {m} {solved}": lambda T=T, m=m, solved=solved: draw_attention(T, m, solved=solved)
    for T in (1, 3, 8) for m in (0, 1, 2, 8) for solved in (True, False)
} | {
    f"outer {sizes}": lambda sizes=sizes: draw_outer(*sizes)
    for sizes in ((1, 1, 1), (1, 3, 2), (2, 4, 5), (5, 9, 9), (5, 2, 3))
} | {"outer, numbers": lambda: draw_outer(A=[[1, -2.25], [100, 0]], B=[[0, -1, 0.125], [1, 1, 1]])}  # fmt: skip


@pytest.mark.parametrize("name", LANES)
def test_words_of_the_lanes_fit(name):
    assert collisions(LANES[name]()) == []


@pytest.mark.parametrize("name", LANES)
def test_the_alt_text_of_the_lanes_has_their_equations_and_sizes(name):
    picture = LANES[name]()
    written = re.sub(r"\$(\w+)\\mathrm\{(\w+)\}\$", r"\1\2", "\n".join(said(picture)))
    facts = re.findall(r"^d(?:[ABhqkv]|P_[kv]) = [^?\n]+$", written, re.M) + re.findall(r"\w+ × \w+", written)
    facts += [f"{m} blue column" for m in re.findall(r"^m = (\d)", written, re.M)]
    tokens = len(re.findall(r"^v[₁-₉]$", written, re.M))
    facts += [f"{tokens} grey column"] if tokens else []
    assert facts
    assert [fact for fact in facts if fact not in picture.alt] == []


def test_open_places_hold_a_question_mark_and_no_answer():
    closed, answered = said(draw_lora(solved=False)), said(draw_lora())
    assert {"dA = ?", "dB = ?", "dx = ?"} <= closed
    assert {"dA = xᵀ dh", "dB = s hᵀ dy"} <= answered
    assert not any("ᵀ" in text for text in closed)
    assert "question marks" in draw_lora(solved=False).alt
    assert "ᵀ" not in draw_lora(solved=False).alt
    assert {rf"$dP_\mathrm{{{name}}}$ = ?" for name in "kv"} <= said(draw_attention(3, 2, solved=False))
    assert {"dk = ?", "dv = ?", "dq = ?"} <= said(draw_attention(solved=False))


def test_matrices_are_drawn_to_their_sizes():
    def rectangle(picture, i):
        return [patch for patch in picture.figure.axes[0].patches if patch.get_zorder() == 2][i]

    W = rectangle(draw_lora(64, 128, 4, backward=False), 0)
    assert W.get_width() == pytest.approx(2 * W.get_height())


@pytest.mark.parametrize(("T", "m"), [(3, 0), (3, 2), (1, 1)])
def test_a_query_sees_the_prefix_and_the_tokens_up_to_its_own(T, m):
    weights = [one for one in texts_of(draw_attention(T, m, backward=False)) if one.get_text() == "p"]
    assert len(weights) == T * m + T * (T + 1) // 2
    both = [one.get_text() for one in texts_of(draw_attention(T, m))]  # and back: a slope where each weight stood
    assert both.count("p") == both.count("dz") == len(weights)


def test_outer_products_add_up_to_what_is_written():
    picture = draw_outer(A=[[1, 2], [0, 1], [-1, 3]], B=[[1, 0, 2], [0.5, 1, -1]])
    product = np.array(json.loads(picture.alt.rpartition("A B = ")[2].rstrip(".")))
    assert np.array_equal(product, np.array([[1, 2], [0, 1], [-1, 3]]) @ [[1, 0, 2], [0.5, 1, -1]])
    assert "−0" not in said(picture)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: draw_lora(4, 4, 5), "at most"),
        (lambda: draw_lora(0, 4, 1), "whole numbers"),
        (lambda: draw_attention(0), "T must"),
        (lambda: draw_attention(3, 9), "m in"),
        (lambda: draw_outer(6), "k must"),
        (lambda: draw_outer(A=[[1.0]]), "both"),
        (lambda: draw_outer(A=[[1.0]], B=[[1.0], [2.0]]), "are needed"),
    ],
)
def test_sizes_that_cannot_be_drawn_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_no_global_state_of_pyplot_is_touched():
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), dict(plt.rcParams)
    draw(tiny_peft("lora-A"))
    draw_attention(3, 2)
    assert before == (plt.get_fignums(), dict(plt.rcParams))


def test_a_users_own_fonts_change_nothing(tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "font.family": "monospace", "hatch.linewidth": 5, "text.color": "red"}):
        picture = draw(tiny_peft("qlora"))
        assert collisions(picture) == []
        picture.save(tmp_path / "block.svg")
    assert (tmp_path / "block.svg").read_text().startswith("<?xml")
