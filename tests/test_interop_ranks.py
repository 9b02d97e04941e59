"""Ranks and patterns: every pair that is exported comes back, and no value is chosen in silence."""

import itertools
import json

import numpy as np
import pytest

from minipeft import GPT2, GPT2Config, LoRA, Stack, get_peft_model
from minipeft.commands import inspect as look
from minipeft.interop import export_peft, import_peft
from minipeft.interop.peft_lora import thin
from minipeft.methods.lora import LoRALinear

safetensors = pytest.importorskip("safetensors.numpy", reason="needs safetensors: pip install minipeft[hf-test]")

CONFIG = GPT2Config(vocab_size=13, n_positions=8, n_embd=16, n_layer=2, n_head=2)
IDS = np.random.default_rng(0).integers(0, 13, (2, 8))
FILES = ("adapter_config.json", "adapter_model.safetensors")


def base():
    return GPT2(CONFIG)


def moved(model, what="AB"):
    """The model with its factors away from their start."""
    rng = np.random.default_rng(1)
    for path, p in model.named_parameters():
        if p.requires_grad and path[-1] in what:
            p.data += rng.normal(0, 0.3, p.data.shape)
    return model


def there_and_back(model, folder):
    """The model that comes back, once it has the same logits and exports the same two files."""
    export_peft(model, folder / "once")
    back = import_peft(base(), folder / "once")
    assert np.abs(back(IDS)[0] - model(IDS)[0]).max() <= 1e-12
    export_peft(back, folder / "twice")
    for name in FILES:
        assert (folder / "once" / name).read_bytes() == (folder / "twice" / name).read_bytes()
    return back


def pairs(model):
    return {path: node for path, node in model.walk() if isinstance(node, LoRALinear)}


QKV = [names for n in (1, 2, 3) for names in itertools.combinations(("q_proj", "k_proj", "v_proj"), n)]


@pytest.mark.parametrize("trained", ["", "A", "B", "AB"], ids=lambda text: text or "nothing")
@pytest.mark.parametrize("r", [1, 5, 6, 8, 9, 15, 16])
@pytest.mark.parametrize("names", QKV, ids="+".join)
def test_every_rank_on_every_subset_of_q_k_v_comes_back_as_it_was(tmp_path, names, r, trained):
    """A model 16 wide: from rank 6 on, three fused pairs have more rows than LoRA may have columns."""
    targets = tuple(f"*.attn.{name}" for name in names)
    model = moved(get_peft_model(base(), LoRA(r=r, alpha=3, targets=targets)), trained)
    back = there_and_back(model, tmp_path)
    assert back.peft[0].method == LoRA(r=r, alpha=3, targets=targets)
    assert pairs(back).keys() == pairs(model).keys()
    for path, pair in pairs(model).items():
        assert np.array_equal(pairs(back)[path].A.data, pair.A.data)
        assert np.array_equal(pairs(back)[path].B.data, pair.B.data)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    "targets", ["*", ("*.o_proj", "*.c_fc"), ("*.v_proj", "*.mlp.c_proj"), "h.1.*", "h.0.attn.k_proj"]
)
@pytest.mark.parametrize("r", [1, 7, 16])
def test_every_rank_beside_o_and_the_mlp(tmp_path, targets, r, trained):
    model = get_peft_model(base(), LoRA(r=r, alpha=3, targets=targets))
    back = there_and_back(moved(model) if trained else model, tmp_path)
    assert pairs(back).keys() == pairs(model).keys()
    assert all(np.array_equal(pairs(back)[path].B.data, pair.B.data) for path, pair in pairs(model).items())


@pytest.mark.parametrize("untrained", ["h.0.attn.k_proj", "h.1.attn.q_proj"])
def test_one_part_that_was_not_trained_among_others(tmp_path, untrained):
    """A row of zeros in B is nobody's, unless the file says whose it is."""
    model = moved(get_peft_model(base(), LoRA(r=8, targets="*.[qkv]_proj")))
    model.get_submodule(untrained).B.data[...] = 0
    back = there_and_back(model, tmp_path)
    assert back.get_submodule(untrained).A.data.shape == (16, 8)
    assert not back.get_submodule(untrained).B.data.any()


def test_factors_that_are_all_zero_are_not_one_shared_factor(tmp_path):
    model = get_peft_model(base(), LoRA(r=6, train="A", targets="*.[qkv]_proj"))
    back = there_and_back(model, tmp_path)
    assert all(np.array_equal(pairs(back)[path].B.data, pair.B.data) for path, pair in pairs(model).items())
    assert back.h[0].attn.q_proj.A is not back.h[0].attn.v_proj.A


def test_ranks_that_differ_between_q_k_and_v(tmp_path):
    stack = [LoRA(r=r, alpha=2 * r, targets=f"*.{name}_proj") for name, r in zip("qkv", (3, 16, 9), strict=True)]
    back = there_and_back(get_peft_model(base(), Stack(tuple(stack))), tmp_path)
    assert {pair.A.data.shape[1] for path, pair in pairs(back).items() if "k_proj" in path} == {16}


def rewritten(folder, change=lambda arrays: arrays, metadata=None):
    """The folder's arrays saved again, as another library would."""
    path = folder / "adapter_model.safetensors"
    safetensors.save_file(change(safetensors.load_file(path)), path, metadata={"format": "pt"} | (metadata or {}))


@pytest.mark.parametrize(
    "note", [None, "", "[", "{}", "[]", '{"h.0.attn.c_attn": 3}', '{"h.0.attn.c_attn": [8, 8]}',
             '{"h.0.attn.c_attn": [8, -8, 24]}', '{"h.0.attn.c_attn": [1, 1, 1]}', '{"h.0.attn.c_attn": ["8", 8, 8]}',
             '{"h.0.attn.c_attn": [24, 0, 0], "h.1.attn.c_attn": [0, 0, 24]}'],
)  # fmt: skip
def test_a_note_that_is_gone_or_untrue_changes_no_logits(tmp_path, note):
    """peft drops it when it saves; B, where it is not zero, is believed before it."""
    for trained in ("A", "AB"):
        model = moved(get_peft_model(base(), LoRA(r=8, targets="*.[qkv]_proj")), trained)
        export_peft(model, tmp_path / trained)
        rewritten(tmp_path / trained, metadata={} if note is None else {"minipeft": note})
        back = import_peft(base(), tmp_path / trained)
        assert np.abs(back(IDS)[0] - model(IDS)[0]).max() <= 1e-12
        if trained == "AB":
            assert all(np.array_equal(pairs(back)[path].A.data, pair.A.data) for path, pair in pairs(model).items())


def test_an_adapter_exported_before_there_were_notes(tmp_path):
    """Rank 24 on c_attn, B zero: nothing says that it were three pairs, and LoRA takes 16 at most."""
    export_peft(get_peft_model(base(), LoRA(r=8, alpha=3, targets="*.[qkv]_proj")), tmp_path / "once")
    rewritten(tmp_path / "once")
    back = import_peft(base(), tmp_path / "once")
    attn = back.h[0].attn
    assert attn.q_proj.A is attn.k_proj.A is attn.v_proj.A
    assert attn.q_proj.A.data.shape == (16, 16)
    assert attn.q_proj.scaling == 3 / 8
    assert np.array_equal(back(IDS)[0], base()(IDS)[0])
    there_and_back(moved(back), tmp_path / "on")


@pytest.mark.parametrize("matrix", ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_rank_above_the_width_of_the_matrix(tmp_path, matrix, trained):
    """peft allows it.  The product is the same, and its last columns have nothing to add."""
    D, rng = 16, np.random.default_rng(2)
    d_in, d_out = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)}[
        matrix
    ]
    config = {"peft_type": "LORA", "r": 40, "lora_alpha": 10, "target_modules": [matrix]}
    arrays = {}
    for i in range(2):
        key = f"base_model.model.transformer.h.{i}.{matrix}.lora_{{}}.weight"
        arrays |= {
            key.format("A"): rng.normal(0, 1, (40, d_in)),
            key.format("B"): trained * rng.normal(0, 1, (d_out, 40)),
        }
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    safetensors.save_file(arrays, tmp_path / "a" / "adapter_model.safetensors")
    model = import_peft(base(), tmp_path / "a")
    change = 0.25 * (arrays[key.format("B")] @ arrays[key.format("A")]).T
    parts = [pair.delta() for path, pair in pairs(model).items() if path.startswith("h.1")]
    assert np.abs(np.hstack(parts) - change).max() <= 1e-12
    assert {pair.A.data.shape[1] for pair in pairs(model).values()} == {16}
    there_and_back(model, tmp_path)


@pytest.mark.parametrize("shape", [(4, 9, 6), (6, 9, 4), (4, 9, 4), (4, 4, 9), (9, 3, 9), (4, 5, 6)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_thin(shape, dtype):
    d_in, r, d_out = shape
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(d_in, r)).astype(dtype), rng.normal(size=(r, d_out)).astype(dtype)
    C, D = thin(A, B)
    assert C.shape[1] == len(D) == min(shape)
    assert C.dtype == D.dtype == dtype
    assert np.abs(C @ D - A @ B).max() <= 100 * np.finfo(dtype).eps
    if d_in <= d_out:  # then B learns as it would have: its gradient passes through A Aᵀ
        assert np.abs(C @ C.T - A @ A.T).max() <= 100 * np.finfo(dtype).eps


# Two patterns for one matrix


def two_matrices(folder):
    model = moved(get_peft_model(base(), LoRA(r=4, alpha=6, targets=("*.o_proj", "*.c_fc"))))
    export_peft(model, folder)
    return model


def with_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("field", ["alpha_pattern", "rank_pattern"])
@pytest.mark.parametrize("first", [0, 1])
def test_two_patterns_of_different_values_for_one_matrix_are_refused(tmp_path, field, first):
    """peft takes the first of them, and sorts them when it saves."""
    two_matrices(tmp_path)
    keys = ["mlp.c_fc", r".*\.h\.1\..*"]
    with_config(tmp_path, **{field: dict(zip(keys[:: 1 - 2 * first], [4, 5], strict=True))})
    model = base()
    with pytest.raises(ValueError) as caught:
        import_peft(model, tmp_path)
    for part in (field, "adapter_config.json", repr(keys[0]), repr(keys[1]), "h.1.mlp.c_fc", ": 4", ": 5"):
        assert part in str(caught.value)
    assert not getattr(model, "peft", ())


@pytest.mark.parametrize("field", ["alpha_pattern", "rank_pattern"])
def test_looking_at_such_a_file_refuses_too(tmp_path, field, capsys):
    """ΔW = s A B would be shown with one of two scales."""
    import argparse

    two_matrices(tmp_path)
    with_config(tmp_path, **{field: {"c_fc": 6, "mlp.*": 12}})
    parser = argparse.ArgumentParser()
    look.add_arguments(parser)
    with pytest.raises(ValueError, match=rf"in {field} both 'c_fc': 6 and 'mlp.\*': 12 are meant for h.0.mlp.c_fc"):
        look.run(parser.parse_args([str(tmp_path)]))


@pytest.mark.parametrize("field", ["alpha_pattern", "rank_pattern"])
def test_one_pattern_that_stands_twice_is_refused(tmp_path, field):
    """A JSON file can say two things under one name; Python and peft take the last."""
    two_matrices(tmp_path)
    path = tmp_path / "adapter_config.json"
    text = path.read_text().replace(f'"{field}": {{}}', f'"{field}": {{"c_fc": 4, "c_fc": 12}}')
    path.write_text(text)
    with pytest.raises(ValueError, match=r"adapter_config.json: the name 'c_fc' stands twice"):
        import_peft(base(), tmp_path)


def test_two_patterns_of_one_value_are_one(tmp_path):
    model = two_matrices(tmp_path)
    with_config(tmp_path, alpha_pattern={"c_fc": 6, r"mlp\..*": 6.0}, rank_pattern={"c_fc": 4, "h.0.mlp.c_fc": 4})
    assert np.abs(import_peft(base(), tmp_path)(IDS)[0] - model(IDS)[0]).max() <= 1e-12


def test_patterns_that_meet_on_no_matrix_are_no_contradiction(tmp_path):
    model = get_peft_model(
        base(), Stack((LoRA(r=4, alpha=6, targets="*.o_proj"), LoRA(r=2, alpha=9, targets="*.c_fc")))
    )
    export_peft(moved(model), tmp_path)
    with_config(tmp_path, r=1, lora_alpha=1, alpha_pattern={"attn.c_proj": 6, "mlp.c_.*": 9},
                rank_pattern={"attn.*": 4, "mlp.*": 2})  # fmt: skip
    assert np.abs(import_peft(base(), tmp_path)(IDS)[0] - model(IDS)[0]).max() <= 1e-12
