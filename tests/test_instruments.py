"""The instruments of the lessons: what they show is what is there."""

import subprocess
import sys

import numpy as np
import pytest
from specimens import CONFIG, snapshot, tiny_model

import minipeft
from minipeft import (
    GPT2,
    AdamW,
    Adapter,
    FullFineTuning,
    GPT2Config,
    LoRA,
    PrefixTuning,
    PromptTuning,
    Stack,
    evaluate,
    fit,
    get_peft_model,
    lab,
    load_base,
    merge,
)
from minipeft.course import check
from minipeft.lab import (
    Table,
    attention_weights,
    changed,
    commonest_letter,
    deltas,
    examine,
    moved,
    nudge,
    off_zero,
    prefix_share,
    products,
    samples,
    skills,
    write,
    written_by,
    wrong_gradients,
)
from minipeft.lab.symbols import Skills
from minipeft.lab.table import below
from minipeft.lab.texts import Samples
from minipeft.methods.lora import LoRALinear
from minipeft.methods.prefix import PrefixAttention
from minipeft.model import Attention
from minipeft.training import Evaluation, constant, symbols_batch, symbols_batches
from minipeft.training.data import new_sequences

METHODS = {"base": None, "prefix": PrefixTuning(m=3), "prompt": PromptTuning(m=2), "lora": LoRA(r=2),
           "both": Stack((PrefixTuning(m=2), PromptTuning(m=1)))}  # fmt: skip


def peft(method, seed=0):
    return off_zero(get_peft_model(tiny_model(), method, seed)) if method else tiny_model()


def test_matplotlib_waits_until_something_is_drawn():
    code = """
import sys
from minipeft.lab import sweep, samples, skills, nudge, products, attention_map, spectrum, deltas
print("matplotlib" in sys.modules, callable(sweep))
import minipeft.lab.sweeps, minipeft.lab.store
print(callable(minipeft.lab.sweep))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


def test_every_name_of_the_lab_is_where_the_list_says():
    for name, home in lab.HOMES.items():
        if home == "diagram":
            continue  # the pictures of models have tests of their own
        assert callable(getattr(lab, name)), name
        assert getattr(lab, name).__doc__, name
    with pytest.raises(AttributeError, match="there are: "):
        _ = lab.nothing


# A table


def test_a_table_prints_itself_wrapped():
    table = Table(["who", "loss", "text"], [("base", 0.12345, "one two three\nfour"), ("LoRA", None, "five")],
                  title="two", note="end", formats={"loss": ".2f"}, widths={"text": 8})  # fmt: skip
    assert repr(table) == (
        "two\nwho   loss  text\n────  ────  ───────\nbase  0.12  one two\n            three\n            four\n\n"
        "LoRA     –  five\n\nend"
    )
    assert table.column("text")[1] == "five"
    with pytest.raises(KeyError, match="who, loss, text"):
        table.column("bits")
    with pytest.raises(ValueError, match="a row needs 2 values"):
        Table(["a", "b"], [(1,)])


def test_rounding_is_said_in_words():
    assert [below(x) for x in (0, 9e-11, 1e-10, 0.31415)] == ["below 1e-10", "below 1e-10", "1e-10", "0.314"]
    assert [below(x, 1e-5) for x in (3e-6, 3e-5)] == ["below 1e-5", "3e-05"]


# Attention


@pytest.mark.parametrize("name", METHODS)
def test_the_weights_are_those_that_the_model_uses(name, ids):
    """Rows have the sum 1, the future is 0, and o = p v gives what the core puts out."""
    model, m = peft(METHODS[name]), {"prefix": 3, "prompt": 2, "both": 3}.get(name, 0)
    before = snapshot(model)
    p = attention_weights(model, ids)
    assert snapshot(model) == before
    N, T = ids.shape
    assert len(p) == 2
    for one in p:
        assert one.shape == (N, 2, T, m + T)
        np.testing.assert_allclose(one.sum(-1), 1, rtol=1e-12)
        assert not one[:, :, ~np.tri(T, m + T, m, dtype=bool)].any()


def test_the_weights_give_the_output_of_the_core(ids):
    model = peft(None)
    core, calls = model.h[1].attn.core, []
    model.h[1].attn.core = type("Spy", (type(core),), {"forward": lambda self, *x: calls.append(x) or core(*x)})(2)
    model(ids)
    model.h[1].attn.core = core
    q, k, v = calls[0]
    o = core.join(attention_weights(model, ids)[1] @ core.split(v))
    np.testing.assert_allclose(o, core(q, k, v)[0], rtol=1e-12)


def test_the_share_of_a_prefix(ids):
    model = peft(PrefixTuning(m=3))
    share, p = prefix_share(model, ids), attention_weights(model, ids)
    assert share.shape == (2, 2)
    np.testing.assert_allclose(share[1, 0], p[1][:, 0, :, :3].sum(-1).mean())
    mask = np.zeros(ids.shape, bool)
    mask[1, 4] = True
    np.testing.assert_allclose(prefix_share(model, ids, mask)[0, 1], p[0][1, 1, 4, :3].sum())
    for _, node in model.walk():
        if isinstance(node, PrefixAttention):
            node.P_k.data[...] = 0
            node.base.split = lambda x, split=node.base.split: (
                0 * split(x)
            )  # every score is 0: m of m + t + 1 are its own
    equal = np.mean([3 / (3 + t + 1) for t in range(ids.shape[1])])
    np.testing.assert_allclose(prefix_share(model, ids), equal)
    with pytest.raises(ValueError, match="no virtual tokens"):
        prefix_share(peft(None), ids)
    with pytest.raises(ValueError, match="mask"):
        prefix_share(model, ids, mask[:1])


def test_a_prefix_that_words_write_does_what_the_words_do(ids):
    words, model = [3, 1, 4, 1], tiny_model()
    before = snapshot(model)
    start = written_by(model, words)
    assert {array.shape for array in start.values()} == {(4, model.config.n_embd)}
    prefixed = get_peft_model(tiny_model(), PrefixTuning(m=4), start=start)
    after = model(np.hstack([np.tile(words, (len(ids), 1)), ids]))[0][:, 4:]
    np.testing.assert_allclose(prefixed(ids)[0], after, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="ids has 2 rows"):
        written_by(model, [words, words])
    with pytest.raises(ValueError):  # a token that the model does not have
        written_by(model, [10**6])
    assert snapshot(model) == before


# Changes


def test_the_change_of_a_weight_is_what_lora_adds():
    model = peft(LoRA(r=2))
    layer = model.h[0].attn.q_proj
    found = deltas(model)
    assert list(found) == [f"h.{i}.attn.{x}_proj" for i in (0, 1) for x in "qv"]
    np.testing.assert_allclose(found["h.0.attn.q_proj"], layer.scaling * layer.A.data @ layer.B.data, atol=1e-14)
    table = moved(model)
    norm = np.linalg.norm(found["h.1.attn.v_proj"])
    assert table.rows[3][:2] == ("h.1.attn.v_proj", pytest.approx(norm))
    assert table.rows[3][2] == pytest.approx(norm / np.linalg.norm(model.h[1].attn.v_proj.base.weight.data))
    after = deltas(merge(model))
    assert all(np.allclose(after[path], found[path], atol=1e-14) for path in found)


def test_full_fine_tuning_and_what_changes_no_matrix():
    model = get_peft_model(tiny_model(), FullFineTuning())
    model.h[1].mlp.c_fc.weight.data[2, 3] += 0.5
    assert list(deltas(model)) == ["h.1.mlp.c_fc"]
    assert deltas(model)["h.1.mlp.c_fc"][2, 3] == pytest.approx(0.5)
    for method in (PrefixTuning(m=2), Adapter(m=2), LoRA(r=2)):  # LoRA at its start adds nothing
        model = get_peft_model(tiny_model(), method)
        assert deltas(model) == {}
        with pytest.raises(ValueError, match="no matrix of the base has changed"):
            moved(model)


def test_a_matrix_under_two_adapters_is_found_by_its_name_in_the_base():
    sequential, parallel = (Adapter(m=2, targets="*.mlp", kind=kind) for kind in ("sequential", "parallel"))
    model = peft(Stack((sequential, parallel, LoRA(r=2, targets="*.c_fc"))))
    assert list(deltas(model)) == ["h.0.mlp.c_fc", "h.1.mlp.c_fc"]


def test_a_broken_delta_is_not_taken_for_a_layer_without_one(monkeypatch):
    model = peft(LoRA(r=2, targets="*.c_fc"))
    monkeypatch.setattr(LoRALinear, "delta", lambda layer: layer.scaling * layer.A.data.T @ layer.B.data)
    with pytest.raises(ValueError, match="matmul"):
        deltas(model)


def test_changed_names_the_arrays_whose_bits_changed():
    base = tiny_model()
    model = get_peft_model(tiny_model(), LoRA(r=2))
    assert changed(model, base) == []
    model.h[0].attn.q_proj.base.weight.data[0, 0] = np.nextafter(model.h[0].attn.q_proj.base.weight.data[0, 0], 1)
    assert changed(model, base) == ["h.0.attn.q_proj.weight"]
    with pytest.raises(ValueError, match="hand in base="):
        changed(model)
    assert changed(off_zero(get_peft_model(load_base("symbols"), LoRA(r=2)))) == []
    with pytest.raises(ValueError, match="not built on this base"):
        changed(model, load_base("symbols"))


# Gradients


class Halved(LoRALinear):
    """Its dA lacks half."""

    def forward(self, x):
        y, backward = super().forward(x)

        def wrong(dy):
            before = self.A.grad.copy()
            dx = backward(dy)
            self.A.grad[...] = before + (self.A.grad - before) / 2
            return dx

        return y, wrong


def test_wrong_gradients_are_seen_off_zero_only(batch):
    model = get_peft_model(tiny_model(), LoRA(r=2))
    assert repr(wrong_gradients(off_zero(model), batch)) == "0 of 8 gradients are wrong"
    model = get_peft_model(tiny_model(), LoRA(r=2))
    model.h[0].attn.q_proj.__class__ = Halved
    assert not wrong_gradients(model, batch)  # B = 0
    wrong = wrong_gradients(off_zero(model), batch)
    assert list(wrong) == ["h.0.attn.q_proj.A"]
    assert repr(wrong) == "1 of 8 gradients are wrong: h.0.attn.q_proj.A"
    assert all(p.data.all() for path, p in model.named_parameters() if p.requires_grad)


def test_examine_tells_a_right_layer_from_a_wrong_one_that_learns():
    """A loss does not: the wrong one learns as well."""

    def right(seed):
        return get_peft_model(load_base("symbols"), LoRA(r=2), seed)

    def wrong(seed):
        model = right(seed)
        model.h[1].attn.v_proj.__class__ = Halved
        return model

    def random(seed):
        return get_peft_model(load_base("symbols"), LoRA(r=2), seed, start={"*.B": 0.1})

    table = examine({"right": right, "wrong": wrong, "random": random}, steps=10, n=8, seeds=(0, 1))
    moved_by, gradients = (table.column(name) for name in table.columns[1:3])
    assert moved_by[:2] == ["0 exactly"] * 2 != moved_by[1:]
    assert gradients == ["0 of 8", "1 of 8", "0 of 8"]
    losses = [[float(one) for one in cell.split()] for cell in table.column(table.columns[3])]
    assert np.shape(losses) == (3, 2)
    assert max(max(row) for row in losses[:2]) < 6  # of 11.7 before
    model, batches = right(1), symbols_batches("near", 8)
    fit(model, batches, 10, AdamW(model, lr=2e-2), seed=1, schedule=constant, progress=False)
    reverse, plus = (evaluate(model, new_sequences(task)).exact for task in ("reverse", "plus"))
    assert (
        table.column("old tasks,\nexact")[0].split()[1] == f"{(reverse + plus) / 2:.0%}" != f"{max(reverse, plus):.0%}"
    )


def test_examine_counts_a_wrecked_run_as_nan_and_goes_on():
    def make(seed):
        return get_peft_model(load_base("symbols"), LoRA(r=2), seed)

    def wild(seed):
        return get_peft_model(load_base("symbols"), LoRA(r=2, alpha=1e200), seed)

    table = examine({"wild": wild, "right": make}, steps=2, n=4, seeds=(0,), lr={"wild": 1e200, "right": 1e-2})
    wrecked, right = table.column(table.columns[3])
    assert wrecked == "nan"
    assert 0 < float(right) < 20


def test_off_zero_moves_what_is_trained_and_nothing_else():
    model = get_peft_model(tiny_model(), LoRA(r=2))
    before, rng = [p.data.copy() for _, p in model.named_parameters()], np.random.default_rng(7)
    off_zero(model, seed=7, scale=0.2)
    for (path, p), start in zip(model.named_parameters(), before, strict=True):
        assert np.array_equal(p.data, start + rng.normal(0, 0.2, start.shape) if p.requires_grad else start), path


def test_nudge_measures_slopes_exactly_where_the_loss_is_of_second_degree():
    x = np.array([[1.0, -2.0], [3.0, 0.0]])
    kept = x.copy()
    assert nudge(lambda: (x**2).sum(), x).tolist() == [[2, -4], [6, 0]]
    assert np.array_equal(x, kept)
    with pytest.raises(TypeError, match="floats"):
        nudge(lambda: 0.0, np.array([1, 2]))
    with pytest.raises(ZeroDivisionError):
        nudge(lambda: 1 / 0, x)
    assert np.array_equal(x, kept)


# Products


def test_products_are_those_that_are_counted():
    config = GPT2Config(vocab_size=23, n_positions=32, n_embd=16, n_layer=3, n_head=2)
    plain, full = GPT2(config).requires_grad_(False), get_peft_model(GPT2(config), FullFineTuning())
    T, D, L, V = 16, 16, 3, 23
    forward = 2 * (12 * D * D * L + V * D) + 4 * T * D * L
    table = products({"frozen": plain, "full": full, "LoRA": get_peft_model(GPT2(config), LoRA(r=2))})
    assert table.rows[0] == ("frozen", forward, None, 0)
    assert table.rows[1] == ("full", forward, 2 * forward, 2)
    assert table.rows[2][1] == forward + 2 * 2 * 2 * (D + D) * L
    assert not any(p.grad.any() for _, p in full.named_parameters())
    assert len(products(full).columns) == 3


# Symbols


@pytest.fixture(scope="module")
def symbols():
    return load_base("symbols", "float32")


def test_the_base_writes_what_is_wanted_and_not_what_it_never_learned(symbols):
    read, wanted, written = write(symbols, "reverse")
    assert read.shape == wanted.shape == written.shape == (4, 8)
    assert np.array_equal(wanted, read[:, ::-1])
    assert np.array_equal(written, wanted)
    assert "32 of 32 symbols are right" in repr(write(symbols, "reverse"))
    near = write(symbols, "near")
    assert np.array_equal(near.written, near.reads)  # it copies
    assert "0 of 32" in repr(near)


def test_a_core_that_cannot_use_a_cache_writes_without(symbols):
    class Short(Attention):
        def forward(self, q, k, v):
            assert q.shape == k.shape
            return super().forward(q, k, v)

    model = load_base("symbols")
    for block in model.h:
        block.attn.core = Short(model.config.n_head)
    assert np.array_equal(write(model, "plus", cache=False).written, write(symbols, "plus").written)
    with pytest.raises(AssertionError):
        write(model, "plus")


def test_what_the_commonest_letter_gives():
    ids, targets, _ = symbols_batch("plus", np.random.default_rng(3), 50)
    hits = 0
    for read, wanted in zip(ids[:, 1:9].tolist(), targets[:, -8:].tolist(), strict=True):
        hits += wanted.count(min(read, key=lambda letter: (-read.count(letter), letter)))
    assert commonest_letter("plus", 50, seed=3) == hits / 400
    assert commonest_letter("copy") > commonest_letter("plus")


def test_skills(symbols):
    table = skills({"base": symbols}, ("copy", "near"), n=16)
    ids, targets, _ = symbols_batch("copy", np.random.default_rng(7), 16)
    right = symbols(ids)[0].argmax(-1)[:, -8:] == targets[:, -8:]
    assert table.found["base", "copy"].exact == right.all(1).mean()
    assert table.rows == [("base", "100% (100%)", "0% (0%)")]
    assert "exact sequences of 16 new ones" in repr(table)
    half = Skills({("half", "near"): Evaluation(loss=0.9, accuracy=0.75, exact=0.25, tokens=8)}, ["near"], ["half"], 1)
    assert half.rows == [("half", "25% (75%)")]
    with pytest.raises(ValueError, match="'copi'; there are: copy"):
        skills(symbols, "copi")


# Texts


class Letters:
    """Thirteen letters, one token each."""

    vocab_size = CONFIG.vocab_size

    def encode(self, text):
        return np.array(["abcdefghijklm".index(letter) for letter in text])

    def decode(self, ids):
        return "".join("abcdefghijklm"[i] for i in ids)


def test_samples_stand_side_by_side(monkeypatch):
    models = {"base": tiny_model(), "LoRA": peft(LoRA(r=2))}
    found = samples(models, "abc", n=9, tokens=Letters())
    ids = minipeft.generate(models["LoRA"], np.array([[0, 1, 2]]), 9)[0, 3:]
    assert found.texts["LoRA"] == [Letters().decode(ids)]
    assert found.texts["LoRA"][0] in repr(found)
    assert repr(found).startswith("abc …")
    drawn = [samples(models, ["ab", "c"], n=9, tokens=Letters(), temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0].texts == drawn[1].texts != drawn[2].texts
    assert len(drawn[0].texts["base"]) == 2
    monkeypatch.setattr(minipeft.training, "load_tokens", lambda name: Letters(), raising=False)
    assert samples(models["base"], "abc", n=9).texts["model"] == found.texts["base"]
    spaced = Samples({"base": [" one\ntwo\n"]}, ["x"], 60, "end")  # what is shown begins with a letter
    assert repr(spaced).split("\n")[3:] == ["base  one", "      two", "", "end"]
    assert spaced.texts["base"] == [" one\ntwo\n"]


def test_samples_that_cannot_be():
    wrong = Letters()
    wrong.vocab_size = 512
    with pytest.raises(ValueError, match="vocabulary of 13 tokens, and these tokens are 512"):
        samples(tiny_model(), "a", tokens=wrong)
    with pytest.raises(ValueError, match="prompt"):
        samples(tiny_model(), "", tokens=Letters())
    with pytest.raises(TypeError, match="samples needs a model"):
        samples({"base": "english"}, "a", tokens=Letters())


# The blanks of a lesson


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (lambda W: W, "✓ all 12 numbers are right"),
        (lambda W: W + 1e-7, "✓"),
        (lambda W: ..., "not written yet; its shape is (3, 4)"),
        (lambda W: W.T, "transposed"),
        (lambda W: W / 2, "times 2, every number would be right: which factor is 2?"),
        (lambda W: -W, "wrong sign"),
        (lambda W: W.sum(0), "is one sum too many?"),
        (lambda W: np.stack([W, W]), "is a sum missing?"),
        (lambda W: np.ones((3, 2)), "wrong axis?"),
        (lambda W: W**2, "you squared it"),
        (lambda W: W + np.eye(3, 4), "3 of its 12 numbers are wrong"),
    ],
)
def test_answers_names_the_slip(got, said, capsys):
    W = np.random.default_rng(0).normal(size=(3, 4))
    check.answers({"dW": lambda: W, "db": W[0]}, {"dW": {"you squared it": W**2}}, dW=got(W))
    line = capsys.readouterr().out
    assert line.startswith("dW: ")
    assert said in line


def test_answers_takes_a_listed_mistake_before_a_factor(capsys):
    W = np.ones((3, 4))
    check.answers({"dW": W}, {"dW": {"a mean over the batch where a sum belongs": W / 3}}, dW=W / 3)
    assert capsys.readouterr().out == "dW: ✗ a mean over the batch where a sum belongs\n"
    with pytest.raises(KeyError, match="there are: dW"):
        check.answers({"dW": W}, dV=W)
