"""Every mistake that a caller can make is told in words, before anything has happened."""

import pickle
from dataclasses import replace
from tokenize import TokenError

import numpy as np
import pytest
from specimens import CONFIG, off_start, rewrite, snapshot, tiny_model, tiny_peft

from minipeft import (
    GPT2,
    METHODS,
    Adapter,
    GPT2Config,
    LoRA,
    Module,
    Parameter,
    PrefixTuning,
    PromptTuning,
    Stack,
    cross_entropy,
    disabled,
    get_peft_model,
    load_adapter,
    merge,
    save_adapter,
    unwrap,
)
from minipeft.files import FileError, read_npz, write_npz
from minipeft.lab.gradcheck import gradcheck
from minipeft.methods.dora import DoRALinear
from minipeft.methods.saving import own_arrays
from minipeft.model import Dropout, Linear

nan, inf = float("nan"), float("inf")


def refused(model, method, message, kind=ValueError):
    """The error says so, and the model is as it was."""
    before = snapshot(model)
    with pytest.raises(kind, match=message):
        get_peft_model(model, method)
    assert snapshot(model) == before


# Settings


@pytest.mark.parametrize("r", [0, -1, 9, 2.5, 2.0, nan, None, True, "4"])
def test_rank(model, r):
    refused(model, LoRA(r=r), r"r must be a whole number in 1 ... min\(d_in, d_out\) = 8, not")


def test_rank_of_the_thinner_side(rng):
    lora = LoRA(r=5).inject
    model = Module()
    model.q_proj = Linear(8, 4, rng)
    with pytest.raises(ValueError, match=r"min\(d_in, d_out\) = 4, not 5"):
        lora(Tree(model), rng)


class Tree(Module):
    def __init__(self, part):
        self.part = part


@pytest.mark.parametrize("alpha", [0, -16, nan, inf, -inf, "16", None])
def test_alpha(model, alpha):
    refused(model, LoRA(r=2, alpha=alpha), "alpha must be a positive number, not")


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5, nan, inf, "0.1", None])
def test_dropout(model, dropout, rng):
    refused(model, LoRA(r=2, dropout=dropout), r"dropout must lie in \[0, 1\), not")
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), not"):
        Dropout(dropout, rng)


@pytest.mark.parametrize("train", ["", "BA", "a", None, "C"])
def test_what_lora_trains(model, train):
    refused(model, LoRA(r=2, train=train), "train must be 'AB', 'A' or 'B', not")


@pytest.mark.parametrize("m", [0, -3, 2.5, 2.0, nan, None, True, "4"])
@pytest.mark.parametrize("method", [Adapter, PrefixTuning, PromptTuning])
def test_m(model, method, m):
    refused(model, method(m=m), "m, the (width|number) of .* not")


@pytest.mark.parametrize("method", [PrefixTuning, PromptTuning])
def test_m_leaves_a_position_for_a_token(model, method):
    refused(model, method(m=CONFIG.n_positions), "must be in 1 ... n_positions - 1 = 15, not 16")
    assert get_peft_model(model, method(m=CONFIG.n_positions - 1))([[3]])[0].shape == (1, 1, CONFIG.vocab_size)


@pytest.mark.parametrize("kind", ["diagonal", None, "", ["parallel"]])
def test_kind_of_adapter(model, kind):
    refused(model, Adapter(kind=kind), "kind must be one of sequential, parallel, not")


# Targets


@pytest.mark.parametrize("method", [LoRA(targets="*.query"), LoRA(targets=("*.q_proj", "*.query")),
                                    Adapter(targets="*.query")])  # fmt: skip
def test_targets_that_match_nothing_list_what_there_is(model, method):
    there_is = {"lora": "h.0.attn.q_proj, .*h.1.mlp.c_proj$", "adapter": "h.0, h.0.attn, h.0.mlp, h.1, .*h.1.mlp$"}
    refused(model, method, r"'\*.query' matches nothing that can be wrapped here; there is: " + there_is[method.name])


def test_targets_of_another_kind(model):
    refused(model, LoRA(r=2, targets="*.ln_1"), r"'\*.ln_1' matches nothing")
    refused(model, Adapter(m=2, targets="*.q_proj"), r"'\*.q_proj' matches nothing")


@pytest.mark.parametrize("targets", [(), [], None, ""])
@pytest.mark.parametrize("method", [LoRA, Adapter])
def test_no_targets_at_all(model, method, targets):
    refused(model, method(targets=targets), "target|matches nothing")


def test_a_method_for_another_model_says_that_there_is_nothing_to_wrap(rng):
    with pytest.raises(ValueError, match="there is: no Linear at all"):
        LoRA().inject(Tree(Module()), rng)


def test_a_second_lora_on_the_same_layer(model):
    get_peft_model(model, LoRA(r=2, targets="*.q_proj"))
    refused(model, LoRA(r=2, targets="*.q_proj"), "already has a LoRA: unwrap")
    refused(tiny_model(), Stack((LoRA(r=2), LoRA(r=3))), "already has a LoRA: unwrap")
    get_peft_model(model, LoRA(r=2, targets="*.v_proj"))


@pytest.mark.parametrize("method", ["lora", LoRA, None, {"r": 8}])
def test_what_is_no_method(model, method):
    refused(model, method, r"a Method|a method|LoRA\(", kind=(TypeError, ValueError))


@pytest.mark.parametrize("methods", [(), [], None, LoRA(), (LoRA,), ("lora",), (LoRA(), None), {"a": LoRA()}])
def test_a_stack_of_no_methods(methods):
    """An empty one froze the model, and its file could not be loaded."""
    with pytest.raises(TypeError, match="a Stack holds methods, such as"):
        Stack(methods)


@pytest.mark.parametrize("model", [None, "english", LoRA()])
def test_what_is_no_model(model):
    with pytest.raises(TypeError, match="a model and a method are needed"):
        get_peft_model(model, LoRA())


@pytest.mark.parametrize("seed", [-1, 2.5, "0", True, nan, [1, 2], np.random.default_rng(0)])
def test_a_seed_that_no_file_can_hold(model, seed):
    before = snapshot(model)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, or None"):
        get_peft_model(model, LoRA(r=2), seed)
    assert snapshot(model) == before


def test_merging_what_is_disabled():
    model = tiny_peft("lora")
    before = snapshot(model)
    with disabled(model), pytest.raises(ValueError, match="disabled"):
        merge(model)
    assert snapshot(model) == before


def test_parameters_that_match_nothing(model):
    with pytest.raises(ValueError, match=r"no parameter matches '\*.gamma'; there are: wte.weight, "):
        model.requires_grad_(True, "*.gamma")


# Token ids


@pytest.mark.parametrize("ids", [[[0, 13]], [[-1, 0]], [[2**40, 0]]])
def test_ids_out_of_range(model, ids):
    with pytest.raises(ValueError, match=r"ids must lie in 0 ... 12; these go from"):
        model(np.array(ids))


@pytest.mark.parametrize("dtype", ["float64", "bool", "complex128", "object", "str"])
def test_ids_that_are_not_integers(model, dtype):
    with pytest.raises(TypeError, match="token ids must be integers, not"):
        model(np.ones((1, 3)).astype(dtype))


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3), (0, 3), (3, 0)])
def test_ids_of_another_shape(model, shape):
    with pytest.raises(ValueError, match=r"ids must have shape \(N, T\)"):
        model(np.zeros(shape, int))


def test_ragged_ids(model):
    with pytest.raises(ValueError, match="inhomogeneous"):
        model([[1, 2], [3]])


def test_more_tokens_than_positions(model):
    with pytest.raises(ValueError, match=r"^17 tokens do not fit into n_positions = 16"):
        model(np.zeros((1, 17), int))


def test_prefix_and_tokens_are_more_than_the_positions(model):
    get_peft_model(model, PrefixTuning(m=4))
    assert model(np.zeros((1, 12), int))[0].shape == (1, 12, 13)
    with pytest.raises(ValueError, match=r"13 tokens after 4 virtual .* need 17 positions; .* n_positions = 16"):
        model(np.zeros((1, 13), int))


def test_prompt_and_tokens_are_more_than_the_positions(model):
    get_peft_model(model, PromptTuning(m=4))
    assert model(np.zeros((1, 12), int))[0].shape == (1, 12, 13)
    with pytest.raises(ValueError, match="13 tokens, and 4 rows before them, do not fit into n_positions = 16"):
        model(np.zeros((1, 13), int))


# The model


def test_heads_that_do_not_share_the_width_evenly():
    with pytest.raises(ValueError, match="n_embd = 10 cannot be shared evenly by n_head = 4"):
        GPT2Config(13, 16, 10, 2, 4)


@pytest.mark.parametrize("size", [0, -1, 2.0, "8", None, True, nan])
@pytest.mark.parametrize("name", ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"])
def test_sizes(name, size):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, not"):
        GPT2Config(**(vars(CONFIG) | {name: size}))


@pytest.mark.parametrize("dtype", ["float16", "int64", np.float32, None, "double"])
def test_dtypes(dtype):
    with pytest.raises(ValueError, match="dtype must be 'float64' or 'float32', not"):
        GPT2Config(**(vars(CONFIG) | {"dtype": dtype}))


@pytest.mark.parametrize("data", [[1, 2], np.zeros(2, "float16"), np.zeros(2, bool)])
def test_parameters_of_other_numbers(data):
    with pytest.raises(TypeError, match="a Parameter holds float32 or float64 numbers, not"):
        Parameter(data)


@pytest.mark.parametrize("around", [lambda linear, rng: linear, lambda linear, rng: DoRALinear(linear, 2, 3, 0.0, rng)])
def test_a_width_that_does_not_fit(around, rng):
    """DoRA multiplies with the weight itself."""
    with pytest.raises(ValueError, match=r"this Linear maps 4 numbers to 3; it was given 5: x must be \(\.\.\., 4\)"):
        around(Linear(4, 3, rng), rng)(np.ones((2, 5)))


def test_a_gradient_for_a_frozen_parameter_is_pythons_own_error(rng):
    p = Parameter(np.ones(3), requires_grad=False)
    with pytest.raises(TypeError):
        p.grad += np.ones(3)


def test_layers_without_a_forward():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        Module()(1)


def test_nothing_to_check(model, batch, rng):
    with pytest.raises(ValueError, match="nothing to check: no parameter is trained"):
        gradcheck(lambda: None, model.requires_grad_(False).named_parameters(), rng)


# The loss

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 5))
TARGETS = np.array([[0, 1, 2], [3, 4, 0]])


@pytest.mark.parametrize("shape", [(2, 4), (3, 2), (6,), (2, 3, 5), (2, 3, 1), ()])
def test_targets_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"logits \(2, 3, 5\) need targets of shape \(2, 3\), not"):
        cross_entropy(LOGITS, np.zeros(shape, int))


@pytest.mark.parametrize("dtype", ["float64", "bool"])
def test_targets_that_are_not_integers(dtype):
    with pytest.raises(TypeError, match="targets must be integers, not"):
        cross_entropy(LOGITS, TARGETS.astype(dtype))


@pytest.mark.parametrize("target", [-1, 5, -100])
def test_targets_out_of_range(target):
    with pytest.raises(ValueError, match=r"targets must lie in 0 ... 4; these go from"):
        cross_entropy(LOGITS, np.where(TARGETS == 4, target, TARGETS))


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 1), (2, 1)])
def test_masks_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"the mask needs the targets' shape \(2, 3\), not"):
        cross_entropy(LOGITS, TARGETS, np.ones(shape))


@pytest.mark.parametrize("mask", [np.zeros((2, 3)), np.zeros((2, 3), bool), -np.ones((2, 3)),
                                  np.array([[1, 0, -1], [1, 1, 1]]), np.full((2, 3), nan),
                                  np.full((2, 3), inf), np.full((2, 3), 0.5), np.full((2, 3), 2),
                                  np.ones((2, 3), complex), np.full((2, 3), "1"), np.full((2, 3), None)],
                         ids=str)  # fmt: skip
def test_masks_without_a_one_or_with_other_things(mask):
    with pytest.raises(ValueError, match="the mask must be of zeros and ones, with at least one 1"):
        cross_entropy(LOGITS, TARGETS, mask)


def test_a_mask_of_short_floats_counts_no_less():
    """Their sum, above 65,504, was infinite, and every weight 0."""
    logits, targets = np.zeros((1, 70_000, 2)), np.zeros((1, 70_000), int)
    assert np.isclose(cross_entropy(logits, targets, np.ones((1, 70_000), "float16"))[0], np.log(2))


@pytest.mark.parametrize("logits", [(LOGITS, None), LOGITS.tolist(), None, LOGITS.astype(int)])
def test_logits_that_are_none(logits):
    with pytest.raises(TypeError, match=r"logits must be an array of floats, as in logits, backward = model\(ids\)"):
        cross_entropy(logits, TARGETS)


def test_a_loss_over_nothing():
    with pytest.raises(ValueError, match="at least one 1"):
        cross_entropy(np.zeros((0, 3, 5)), np.zeros((0, 3), int))


# Files


@pytest.fixture
def saved(tmp_path):
    """A LoRA's file."""
    path = tmp_path / "adapter.npz"
    save_adapter(tiny_peft("lora-A"), path)
    return path


def refused_file(path, message, model=None, kind=FileError):
    model = model or tiny_model()
    before = snapshot(model)
    with pytest.raises(kind, match=message):
        load_adapter(model, path)
    assert snapshot(model) == before


def test_no_file(tmp_path):
    refused_file(tmp_path / "none.npz", "there is no file .*none.npz", kind=FileNotFoundError)
    refused_file(tmp_path, "is not a file")


def test_a_file_error_is_a_value_error():
    assert issubclass(FileError, ValueError)


def test_a_file_cut_short_at_any_length(saved):
    whole = saved.read_bytes()
    for length in {*range(0, len(whole), 61), len(whole) - 1, len(whole) - 21, len(whole) - 22, len(whole) - 23}:
        saved.write_bytes(whole[:length])
        refused_file(saved, "adapter.npz is not a readable minipeft adapter: it is damaged, cut short")


def test_a_file_with_one_byte_changed_is_refused_or_loads_as_it_was(saved):
    """Whatever the byte: one of an array, of its header, or of the zip's directory at the end."""
    save_adapter(get_peft_model(tiny_model(), LoRA(r=1, targets="h.0.attn.q_proj")), saved)
    whole, (header, arrays) = saved.read_bytes(), read_npz(saved, "adapter")
    model, refused = tiny_model(), 0
    for place in sorted({*range(0, len(whole), 7), *range(len(whole) - 240, len(whole))}):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5B]) + whole[place + 1 :])
        try:
            load_adapter(model, saved)
        except FileError:
            refused += 1
            continue
        assert read_npz(saved, "adapter")[0] == header, place
        assert all(np.array_equal(array, arrays[name]) for name, array in own_arrays(model).items()), place
        unwrap(model)
    assert refused > 100


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello\n", np.random.default_rng(0).bytes(5000),
                                     pickle.dumps({"header": 1}), pickle.dumps(np.ones(3)), b"\x93NUMPY\x01\x00"],
                         ids=lambda content: repr(content[:8]))  # fmt: skip
def test_something_else_altogether(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    refused_file(tmp_path / "a.npz", "not a readable minipeft adapter: it is damaged, cut short, or something else")


def test_an_array_that_is_no_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    refused_file(tmp_path / "a.npy", "not a readable minipeft adapter")


def test_an_npz_of_someone_else(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.ones(3))
    refused_file(tmp_path / "a.npz", "not a readable minipeft adapter")
    np.savez(tmp_path / "b.npz", header=np.frombuffer(b"[1, 2]", np.uint8))
    refused_file(tmp_path / "b.npz", "not a readable minipeft adapter")


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return (pytest.fail, ("the pickle was opened",))


def test_a_pickle_inside_is_not_opened(saved):
    with np.load(saved) as npz:
        arrays = dict(npz)
    trap = np.empty(1, object)
    trap[0] = Trap()
    np.savez(saved, **(arrays | {max(arrays): trap}))
    refused_file(saved, "not a readable minipeft adapter")


def test_a_file_of_another_kind(tmp_path):
    write_npz(tmp_path / "a.npz", {"kind": "base"}, {})
    refused_file(tmp_path / "a.npz", "holds a minipeft base.* adapter")


PATH = "h.1.attn.v_proj.B"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, arrays: arrays.pop(PATH), rf"missing \['{PATH}'\], unknown nothing"),
        (lambda header, arrays: arrays.update(more=np.ones(2)), r"missing nothing, unknown \['more'\]"),
        (lambda header, arrays: arrays.update(more=arrays.pop(PATH)), rf"missing \['{PATH}'\], unknown \['more'\]"),
        (lambda header, arrays: arrays.update({PATH: arrays[PATH].T}), rf"{PATH} has shape \(8, 2\) where \(2, 8\) is"),
        (lambda header, arrays: arrays.update({PATH: arrays[PATH][0]}), rf"{PATH} has shape \(8,\) where \(2, 8\) is"),
        (lambda header, arrays: arrays[PATH].fill(nan), f"{PATH} holds something other than finite numbers"),
        (lambda header, arrays: arrays[PATH].fill(inf), f"{PATH} holds something other than finite numbers"),
        (lambda header, arrays: arrays.update({PATH: arrays[PATH] > 0}), f"{PATH} holds something other than finite"),
        (lambda header, arrays: arrays.update({PATH: arrays[PATH] + 0j}), f"{PATH} holds something other than finite"),
        (lambda header, arrays: arrays.clear(), "missing .*, unknown nothing"),
    ],
    ids=["missing", "added", "renamed", "transposed", "one row", "nan", "inf", "bool", "complex", "empty"],
)
def test_arrays_that_do_not_fit(saved, change, message):
    rewrite(saved, change)
    refused_file(saved, message)


def test_numbers_too_large_for_a_float32_base(saved):
    rewrite(saved, lambda header, arrays: arrays[PATH].fill(1e300))
    model = GPT2(GPT2Config(**(vars(CONFIG) | {"dtype": "float32"})))
    for (_, ours), (_, theirs) in zip(model.named_parameters(), tiny_model().named_parameters(), strict=True):
        ours.data[...] = theirs.data
    refused_file(saved, f"{PATH} holds something other than finite numbers", model)


@pytest.mark.parametrize(
    ("saved_method", "message"),
    [
        ({"name": "hydra", "settings": {}}, f"no method 'hydra'; it has: {', '.join(METHODS)}"),
        ({"name": ["lora"], "settings": {}}, "no method"),
        ({"name": "lora", "settings": {"rank": 2}}, "settings .*'rank': 2.* are not those of (the method )?lora"),
        ({"name": "lora", "settings": ["r"]}, "settings .* are not those of (the method )?lora"),
        ({"name": "lora", "settings": None}, "settings .* are not those of (the method )?lora"),
        ({"name": "lora", "settings": {"r": 99}}, "r must be a whole number"),
        ({"name": "lora", "settings": {"r": "two"}}, "r must be a whole number"),
        ({"name": "lora", "settings": {"alpha": "16"}}, "alpha must be a positive number"),
        ({"name": "lora", "settings": {"targets": "*.query"}}, "matches nothing"),
        ({"name": "lora", "settings": {"targets": 3}}, "target"),
        ({"name": "adapter", "settings": {"m": 2.5}}, "m, the width of the bottleneck"),
        ({"name": "prefix", "settings": {}}, "missing .*P_k.* unknown .*v_proj.A"),
        ({"name": "stack", "methods": [{"name": "hydra", "settings": {}}]}, "no method 'hydra'"),
        ({"name": "stack"}, "damaged|method"),
        ({"settings": {}}, "damaged|method"),
        ({"name": "lora"}, "damaged|settings"),
        ("lora", "damaged|method"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_methods_that_do_not_exist_or_settings_that_make_no_sense(saved, saved_method, message):
    rewrite(saved, lambda header, arrays: header.update(methods=[saved_method]))
    refused_file(saved, message, kind=ValueError)


@pytest.mark.parametrize("methods", [[], None, 3, {}])
def test_a_file_without_methods(saved, methods):
    rewrite(saved, lambda header, arrays: (header.update(methods=methods), arrays.clear()))
    refused_file(saved, "damaged|method", kind=ValueError)
    refused_file(saved, "damaged|method", tiny_model().requires_grad_(False), kind=ValueError)


@pytest.mark.parametrize("seed", ["one", -1, None, 2.5])
def test_a_seed_that_is_none(saved, seed):
    """The arrays come from the file, so a seed is either refused in words or makes no difference."""
    rewrite(saved, lambda header, arrays: header["methods"][0].update(seed=seed))
    if seed is None:
        assert load_adapter(tiny_model(), saved).peft
    else:
        refused_file(saved, "damaged|seed", kind=ValueError)


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_a_version_that_this_one_cannot_read(saved, version):
    rewrite(saved, lambda header, arrays: header.update(version=version))
    refused_file(saved, "this minipeft reads version 1")


def test_a_flip_in_the_header_of_an_array(tmp_path):
    """NumPy reads it as Python, whose tokenizer has an error of its own; a long array is read before its sum is checked."""
    model = tiny_model(replace(CONFIG, n_embd=64))
    save_adapter(get_peft_model(model, LoRA(r=16)), tmp_path / "a.npz")
    raw = (tmp_path / "a.npz").read_bytes()
    at = raw.index(b")", raw.index(b"'shape': (64"))
    (tmp_path / "a.npz").write_bytes(raw[:at] + b"+" + raw[at + 1 :])
    with pytest.raises(FileError, match="it is damaged, cut short, or something else") as caught:
        read_npz(tmp_path / "a.npz", "adapter")
    assert isinstance(caught.value.__cause__, TokenError)


@pytest.mark.parametrize("start", [[1], 3, "*.A", [], 0, "", np.zeros((2, 2))], ids=repr)
def test_a_start_that_is_no_dict(model, start):
    with pytest.raises(TypeError, match=r"start is \{glob over paths: values\}"):
        get_peft_model(model, LoRA(r=2), start=start)


def test_a_start_that_is_too_large_for_float32():
    model = GPT2(replace(CONFIG, dtype="float32"))
    with pytest.raises(ValueError, match="needs finite numbers of float32"):
        get_peft_model(model, LoRA(r=2), start={"*.B": 1e300})


@pytest.mark.parametrize("config", [None, [1], "none", 3])
def test_a_config_that_is_none(saved, config):
    rewrite(saved, lambda header, arrays: header.update(config=config))
    refused_file(saved, "damaged|another base", kind=ValueError)


def test_another_base_of_the_same_shapes(saved):
    refused_file(saved, "belongs to another base: the shapes agree, the weights do not", off_start(tiny_model()))


@pytest.mark.parametrize(("name", "size"), [("vocab_size", 14), ("n_positions", 17), ("n_embd", 16), ("n_layer", 3),
                                            ("n_head", 4)])  # fmt: skip
def test_another_base_of_other_shapes(saved, name, size):
    model = tiny_model(GPT2Config(**(vars(CONFIG) | {name: size})))
    was = getattr(CONFIG, name)
    refused_file(saved, f"belongs to another base: there {name} is {was}, here it is {size}", model)


def test_a_model_that_already_carries_a_method(saved):
    refused_file(saved, r"already carries a PEFT method: unwrap\(model\) first", tiny_peft("adapter"), ValueError)


def test_nothing_to_save(model, tmp_path):
    with pytest.raises(ValueError, match="carries no PEFT method: there is nothing to save"):
        save_adapter(model, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_what_training_spoilt_is_not_saved(saved):
    old, model = saved.read_bytes(), tiny_peft("lora")
    model.h[1].attn.v_proj.B.data[0, 0] = nan
    with pytest.raises(ValueError, match=f"{PATH} holds numbers that are not finite"):
        save_adapter(model, saved)
    assert saved.read_bytes() == old


def test_a_base_that_was_changed_beneath_its_adapter_is_in_no_file_of_an_adapter(saved):
    old, model = saved.read_bytes(), tiny_peft("lora")
    model.h[0].mlp.c_fc.weight.data += 0.1
    with pytest.raises(ValueError, match=r"before get_peft_model; .* merge\(model\) and save_gpt2\(model, path\)"):
        save_adapter(model, saved)
    assert saved.read_bytes() == old


@pytest.mark.parametrize(("name", "message"), [("", "is a folder"), ("no/a.npz", "there is no folder")])
def test_no_place_for_a_file(tmp_path, name, message):
    with pytest.raises(FileError, match=message):
        save_adapter(tiny_peft("lora"), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    old = saved.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("minipeft.files.savez", full)
    with pytest.raises(OSError, match="no space left"):
        save_adapter(tiny_peft("lora"), saved)
    assert saved.read_bytes() == old
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
