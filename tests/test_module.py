"""The tree of layers: names, freezing, modes, wrapping; and the model's own names and start, which others rely on."""

import numpy as np
import pytest
from specimens import CONFIG, Twice, tiny_model

from minipeft import GPT2, GPT2Config, Module, Parameter, Wrapper
from minipeft.model import Linear, chain
from minipeft.model.module import innermost


class Around(Wrapper):
    def forward(self, x):
        return self.base(x)


def test_paths_and_shapes_are_those_of_the_design(model):
    V, P, D, L = CONFIG.vocab_size, CONFIG.n_positions, CONFIG.n_embd, CONFIG.n_layer
    expected = {"wte.weight": (V, D), "wpe.weight": (P, D), "ln_f.weight": (D,), "ln_f.bias": (D,)}
    for i in range(L):
        expected |= {f"h.{i}.{ln}.{part}": (D,) for ln in ("ln_1", "ln_2") for part in ("weight", "bias")}
        for path, d_in, d_out in [*((f"attn.{letter}_proj", D, D) for letter in "qkvo"),
                                  ("mlp.c_fc", D, 4 * D), ("mlp.c_proj", 4 * D, D)]:  # fmt: skip
            expected |= {f"h.{i}.{path}.weight": (d_in, d_out), f"h.{i}.{path}.bias": (d_out,)}
    assert {path: p.data.shape for path, p in model.named_parameters()} == expected
    modules = {path for path, node in model.walk() if isinstance(node, Module)}
    assert modules >= {"wte", "wpe", "h.0", "h.1.attn.core", "h.0.mlp.act", "ln_f", "lm_head"}


def test_the_head_is_the_token_embedding_itself(model):
    assert model.lm_head.weight is model.wte.weight


def test_the_start_is_gpt2s():
    model = GPT2(GPT2Config(vocab_size=50, n_positions=40, n_embd=64, n_layer=8, n_head=4))
    for path, p in model.named_parameters():
        if path.endswith("bias"):
            assert not p.data.any()
        elif ".ln_" in path or path.startswith("ln_f"):
            assert (p.data == 1).all()
        else:
            std = 0.02 / 16**0.5 if path.endswith(("o_proj.weight", "c_proj.weight")) else 0.02
            assert abs(p.data.std() / std - 1) < 0.08, path


def test_the_seed_decides_the_start():
    one, same, other = (GPT2(CONFIG, seed).h[1].mlp.c_fc.weight.data for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_trained_parameter_has_a_gradient_buffer_and_a_frozen_one_none():
    p = Parameter(np.ones((2, 3), "float32"))
    assert p.requires_grad
    assert p.grad.dtype == np.float32
    p.grad += 5
    p.requires_grad = True
    assert (p.grad == 5).all()
    p.requires_grad = False
    assert p.grad is None
    p.requires_grad = True
    assert not p.grad.any()
    assert repr(p) == "Parameter(2, 3) float32, trained"
    assert repr(Parameter(np.ones(2), False)) == "Parameter(2,) float64, frozen"


def test_freezing_by_glob(model):
    assert model.requires_grad_(False) is model
    assert not model.trains()
    model.requires_grad_(True, "h.1.*.bias")
    trained = {path for path, p in model.named_parameters() if p.requires_grad}
    assert trained == {path for path, _ in model.named_parameters() if path.startswith("h.1.") and path[-5:] == ".bias"}
    assert model.trains()
    assert model.h[1].trains()
    assert not model.h[0].trains()


def test_zero_grad_sets_all_to_zero_in_place(model):
    buffers = [p.grad for _, p in model.named_parameters()]
    for grad in buffers:
        grad += 1
    model.requires_grad_(False, "wpe.*").zero_grad()
    assert all(p.grad is None or not p.grad.any() for _, p in model.named_parameters())
    assert buffers[0] is model.wte.weight.grad


def test_modes_reach_every_layer(model):
    for mode in (False, True):
        assert model.train(mode) is model
        assert {node.training for _, node in [("", model), *model.walk()] if isinstance(node, Module)} == {mode}
    assert model.eval().training is False


def test_a_wrapper_takes_its_bases_mode(model):
    assert Around(model.eval()).training is False
    assert Around(model.train()).training is True


def test_submodules_by_path(model):
    assert model.get_submodule("") is model
    assert model.get_submodule("h.1.attn.q_proj") is model.h[1].attn.q_proj
    new = Linear(8, 8, np.random.default_rng(0))
    model.set_submodule("h.1.attn.q_proj", new)
    assert model.h[1].attn.q_proj is new
    model.set_submodule("h.0", new)
    assert model.h[0] is new


def test_wrap_returns_the_paths_and_takes_several_globs(model):
    assert model.wrap(("*.1.attn", "h.0.mlp.c_*"), Around) == ["h.0.mlp.c_fc", "h.0.mlp.c_proj", "h.1.attn"]
    assert isinstance(model.h[1].attn, Around)
    assert not isinstance(model.h[0].attn, Around)


def test_wrap_around_a_layer_and_what_lies_in_it(model, ids):
    logits, _ = tiny_model()(ids)
    paths = model.wrap(("h.1", "h.1.mlp", "h.1.mlp.c_fc"), Around)
    assert paths == ["h.1", "h.1.mlp", "h.1.mlp.c_fc"]
    assert isinstance(model.h[1].base.mlp.base.c_fc, Around)
    assert np.array_equal(model(ids)[0], logits)


def test_wrap_goes_around_a_wrapper_and_not_inside_it(model):
    model.wrap("h.0.mlp", Around)
    model.wrap("*.mlp*", Around, kind=type(model.h[1].mlp))
    assert isinstance(model.h[0].mlp.base, Around)
    assert not isinstance(model.h[0].mlp.base.base, Around)
    assert innermost(model.h[0].mlp) is model.h[0].mlp.base.base


def test_globs_fit_the_paths_of_the_bare_base_too(model):
    """So that two methods go into a model in any order."""
    model.wrap("*.attn", Around)
    assert model.matching("h.0.attn.q_proj") == model.matching("h.0.attn.base.q_proj") == ["h.0.attn.base.q_proj"]
    assert model.matching(("h.1.*", "*.q_proj"), kind=Linear)[:2] == ["h.0.attn.base.q_proj", "h.1.attn.base.q_proj"]
    with pytest.raises(ValueError, match=r"there is: h\.0\.attn\.q_proj, "):
        model.matching("h.7.*", kind=Linear)


def test_a_chain_of_nothing_is_the_identity():
    y, backward = chain(3.0)
    assert y == 3.0
    assert backward(2.0) == 2.0


def test_lists_and_branches_are_walked_in_order(rng):
    tree = Twice([Linear(2, 3, rng), Twice(Linear(1, 1, rng))])
    assert [path for path, _ in tree.walk()] == [
        "layer.0", "layer.0.weight", "layer.0.bias", "layer.1", "layer.1.layer", "layer.1.layer.weight",
        "layer.1.layer.bias",
    ]  # fmt: skip
