"""Optimisers against their formulas, and a loop that stops, resumes and reports as it says."""

import itertools
import math
import re

import numpy as np
import pytest
from specimens import CONFIG, off_start, snapshot, tiny_batch, tiny_model

from minipeft import (
    IA3,
    Adapter,
    FullFineTuning,
    Linear,
    LoRA,
    Parameter,
    disabled,
    get_peft_model,
    merge,
    quantise,
    unwrap,
)
from minipeft.files import FileError, read_npz, write_npz
from minipeft.training import SGD, AdamW, Diverged, clip_grad_norm, constant, evaluate, fit, warmup_cosine
from minipeft.training import optimizers as optimizers_module


def lora(dropout=0.0, **settings):
    return get_peft_model(tiny_model(), LoRA(r=2, dropout=dropout, **settings))


def batches(rng):
    ids = rng.integers(0, 13, (4, 6))
    return ids, (ids + 1) % 13


VAL = [batches(np.random.default_rng(9))]


def weights(model):
    return {path: p.data.copy() for path, p in model.named_parameters() if p.requires_grad}


def name_of(case):
    """A test's name that is the same in the next run: without the address of a function."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", str(case))


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


# ---- optimisers


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_adamw_is_its_formula(rng, dtype):
    start, grads = rng.normal(size=(5, 3)), rng.normal(size=(4, 5, 3))
    p = Parameter(start.astype(dtype))
    optimizer = AdamW([p], lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    m = v = 0
    for t, g in enumerate(grads, start=1):
        p.grad[...] = g
        optimizer.step()
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        m_hat, v_hat = m / (1 - 0.8**t), v / (1 - 0.95**t)
        start = start - 0.01 * 0.1 * start - 0.01 * m_hat / (np.sqrt(v_hat) + 1e-6)
    assert p.data.dtype == dtype
    np.testing.assert_allclose(p.data, start, rtol=1e-12 if dtype == "float64" else 1e-5)


def test_sgd_is_its_formula(rng):
    start, grads = rng.normal(size=7), rng.normal(size=(4, 7))
    p, u = Parameter(start.copy()), 0
    optimizer = SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01)
    for g in grads:
        p.grad[...] = g
        optimizer.step()
        u = 0.9 * u + g + 0.01 * start
        start = start - 0.1 * u
    np.testing.assert_allclose(p.data, start, rtol=1e-12)


def test_long_arrays_are_updated_in_blocks_that_meet(rng, monkeypatch):
    whole, pieces = (Parameter(np.arange(11.0)) for _ in range(2))
    for p, block in ((whole, 100), (pieces, 4)):
        monkeypatch.setattr(optimizers_module, "BLOCK", block)
        p.grad[...] = np.linspace(-1, 1, 11)
        AdamW([p], lr=0.1).step()
    assert (whole.data == pieces.data).all()
    assert (whole.data != np.arange(11.0)).sum() == 10  # all but the one whose gradient is 0


def test_groups_have_their_own_rate_and_frozen_parameters_stay(rng):
    a, b, frozen = Parameter(np.ones(2)), Parameter(np.ones(2)), Parameter(np.ones(2), requires_grad=False)
    optimizer = SGD([{"params": [a]}, {"params": [("b", b), ("frozen", frozen)], "lr": 0.5}], lr=0.1)
    for p in (a, b):
        p.grad[...] = 1
    optimizer.step(lr_factor=0.5)
    assert (a.data == 0.95).all()
    assert (b.data == 0.75).all()
    assert (frozen.data == 1).all()


def test_a_model_may_be_given_itself():
    model = lora()
    assert len(AdamW(model, lr=0.1).parameters()) == len(weights(model))
    assert AdamW(model.named_parameters()).nbytes() == 2 * sum(w.nbytes for w in weights(model).values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda p: AdamW([]), "nothing to train"),
        (lambda p: AdamW([Parameter(np.ones(1), requires_grad=False)]), "nothing to train"),
        (lambda p: AdamW([p], lr=-1), r"lr must lie in"),
        (lambda p: AdamW([p], lr=math.nan), r"lr must lie in"),
        (lambda p: AdamW([p], lr="1e-3"), r"lr must lie in \[0, inf\), not '1e-3'"),
        (lambda p: AdamW([p], lr=None), r"lr must lie in"),
        (lambda p: AdamW([p], lr=True), r"lr must lie in"),
        (lambda p: AdamW([p], lr=np.array([0.1, 0.2])), r"lr must lie in"),
        (lambda p: AdamW([{"params": [p], "lr": None}]), r"lr must lie in"),
        (lambda p: AdamW([p], betas=(0.9, 0.99, 0.999)), "too many values"),
        (lambda p: AdamW([p], betas=(1.0, 0.9)), r"beta1 must lie in"),
        (lambda p: SGD([p], momentum=1), r"momentum must lie in"),
        (lambda p: SGD([{"params": [p], "rate": 1}]), r"no setting \['rate'\]"),
        (lambda p: SGD([{"params": [p], "momentum": 0.5}]), "give momentum to SGD itself"),
        (lambda p: SGD([p, p]), "updated twice"),
        (lambda p: SGD([{"params": [p]}, {"params": [p]}]), "updated twice"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        arguments(Parameter(np.ones(1)))


@pytest.mark.parametrize(
    "parameters", [None, "model", [np.ones(2)], {"params": [1]}, [{"lr": 1}], lambda: 1], ids=name_of
)
def test_what_holds_no_parameters_is_refused(parameters):
    with pytest.raises(TypeError, match="an optimizer takes a model, Parameters or"):
        AdamW(parameters)


def test_transposed_arrays_are_trained_or_refused(rng):
    """An optimizer updates flat views, and of another order than C there is none: the update would go into a copy."""
    W = rng.normal(size=(3, 4))
    layer = Linear.from_arrays(W.T)
    y, backward = layer(rng.normal(size=(2, 4)))
    backward(np.ones_like(y))
    SGD(layer, lr=0.1).step()
    assert np.array_equal(layer.weight.data, W.T - 0.1 * layer.weight.grad)
    layer.bias.data = np.zeros(8)[::2]
    before, optimizer = layer.weight.data.copy(), SGD(layer, lr=0.1)
    with pytest.raises(ValueError, match="in C order"):
        optimizer.step()
    assert np.array_equal(layer.weight.data, before)  # refused before anything was updated
    assert optimizer.steps == 0


def test_evaluations_are_settings_where_there_are_any(tmp_path):
    model, val = lora(), [tiny_batch()]
    fit(model, batches, 4, AdamW(model), progress=False, checkpoint=tmp_path / "c", val=val, val_every=2)
    other = lora()
    with pytest.raises(FileError, match="val_every, patience differ"):
        fit(
            other, batches, 4, AdamW(other), progress=False, checkpoint=tmp_path / "c", resume=True, val=val, patience=1
        )
    fit(other, batches, 4, AdamW(other), progress=False, checkpoint=tmp_path / "d")
    fit(other, batches, 4, AdamW(other), progress=False, checkpoint=tmp_path / "d", resume=True, val_every=7)  # no val


@pytest.mark.parametrize("factors", [None, ["a"], [None], 3])
def test_a_damaged_schedule_in_a_checkpoint(factors, tmp_path):
    model = lora()
    fit(model, batches, 2, AdamW(model), progress=False, checkpoint=tmp_path / "c.npz")
    header, arrays = read_npz(tmp_path / "c.npz", "checkpoint")
    header["history"]["lr_factor"] = factors
    write_npz(tmp_path / "c.npz", header, arrays)
    with pytest.raises(FileError, match="is damaged"):
        fit(model, batches, 2, AdamW(model), progress=False, checkpoint=tmp_path / "c.npz", resume=True)


def test_a_transposed_start_is_trained(rng):
    start = {"*.A": rng.normal(size=(2, 8)).T, "*.B": lambda shape, rng: rng.normal(size=shape[::-1]).T}
    model = get_peft_model(tiny_model(), LoRA(r=2), start=start)
    before = {path: p.data.copy() for path, p in model.named_parameters() if p.requires_grad}
    fit(model, [tiny_batch()], 1, AdamW(model, lr=0.01), progress=False)
    for path, p in model.named_parameters():
        if path in before:
            assert np.isclose(abs(p.data - before[path]), 0.01, rtol=1e-3).all(), path


def test_what_was_merged_into_a_quantised_base_can_be_trained():
    model = merge(get_peft_model(quantise(tiny_model()), IA3()))
    get_peft_model(model, FullFineTuning())
    before = {path: p.data.copy() for path, p in model.named_parameters() if p.requires_grad}
    fit(model, [tiny_batch()], 1, AdamW(model, lr=0.01), progress=False)
    assert "h.0.attn.k_proj.weight" in before
    assert all((p.data != before[path]).any() for path, p in model.named_parameters() if path in before)


def test_one_parameter_alone_is_enough():
    p = Parameter(np.ones(1))
    assert AdamW(p).parameters() == SGD([{"params": p}]).parameters() == [p]


def test_clipping_scales_all_gradients_to_one_norm():
    a, b = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    a.grad[...], b.grad[...] = 3, 4
    assert clip_grad_norm([a, b], None) == 5
    assert (a.grad[0], b.grad[0]) == (3, 4)
    assert clip_grad_norm(iter([a, b]), 1.0) == 5
    np.testing.assert_allclose([a.grad[0], b.grad[0]], [0.6, 0.8])


def test_warmup_cosine_rises_then_falls_to_its_floor():
    factors = [warmup_cosine(step, 100, warmup=10, floor=0.2) for step in range(100)]
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    np.testing.assert_allclose(factors[55], 0.6)
    assert 0.2 < factors[-1] < 0.21
    assert warmup_cosine(0, 1) == constant(0, 1) == 1


# ---- the loop


def test_fit_lowers_the_loss_and_writes_its_history():
    model = lora(targets="*")
    history = fit(model, batches, 30, AdamW(model, lr=0.03), val=VAL, val_every=10, progress=False)
    assert history.val_step == [0, 10, 20, 30]
    assert history.val_loss[-1] < 0.8 * history.val_loss[0]
    assert history.val_loss[-1] == evaluate(model, VAL).loss
    assert len(history.loss) == len(history.grad_norm) == len(history.seconds) == len(history.lr_factor) == 30
    assert all(norm > 0 for norm in history.grad_norm)


def test_lists_are_gone_through_again_and_generators_end_with_a_word():
    model, rng = lora(), np.random.default_rng(0)
    some = [batches(rng) for _ in range(3)]
    assert len(fit(model, some, 7, SGD(model, lr=0.01), progress=False).loss) == 7
    with pytest.raises(ValueError, match="ended after 3 of 5 steps"):
        fit(model, iter(some), 5, SGD(model, lr=0.01), progress=False)


class Interrupted(Exception):
    pass


def stopping_at(step):
    """Batches that break off at the given call, as a power cut would."""
    calls = iter(range(10**6))

    def stream(rng):
        if next(calls) == step:
            raise Interrupted
        return batches(rng)

    return stream


@pytest.mark.parametrize("optimizer", [lambda m: AdamW(m, lr=0.02), lambda m: SGD(m, lr=0.1, momentum=0.9)])
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path, optimizer):
    settings = {"val": VAL, "val_every": 5, "patience": 50, "checkpoint_every": 4, "seed": 3, "progress": False}
    whole = lora(dropout=0.3)
    uninterrupted = fit(whole, batches, 20, optimizer(whole), **settings)

    first = lora(dropout=0.3)
    with pytest.raises(Interrupted):
        fit(first, stopping_at(14), 20, optimizer(first), checkpoint=tmp_path / "run.npz", **settings)
    second = lora(dropout=0.3)
    resumed = fit(second, batches, 20, optimizer(second), checkpoint=tmp_path / "run.npz", resume=True, **settings)

    assert same(weights(whole), weights(second))
    assert resumed.loss == uninterrupted.loss
    assert resumed.val_loss == uninterrupted.val_loss
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_an_iterable_resumes_where_it_was(tmp_path):
    rng = np.random.default_rng(4)
    some = [batches(rng) for _ in range(5)]
    whole, part = lora(), lora()
    fit(whole, some, 12, AdamW(whole), progress=False)
    with pytest.raises(ValueError, match="ended after 5 of 12"):
        fit(part, iter(some), 12, AdamW(part), progress=False, checkpoint=tmp_path / "c", checkpoint_every=5)
    part = lora()
    fit(part, some, 12, AdamW(part), progress=False, checkpoint=tmp_path / "c", resume=True)
    assert same(weights(whole), weights(part))


def test_a_finished_run_is_not_trained_further_by_resuming(tmp_path):
    model = lora()
    fit(model, batches, 4, AdamW(model), progress=False, checkpoint=tmp_path / "c")
    done = weights(model)
    fit(model, batches, 4, AdamW(model), progress=False, checkpoint=tmp_path / "c", resume=True)
    assert same(done, weights(model))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda m, path: fit(m, batches, 9, AdamW(m), checkpoint=path, resume=True, progress=False), "steps differ"),
        (lambda m, path: fit(m, batches, 4, AdamW(m, lr=1), checkpoint=path, resume=True, progress=False), "groups"),
        (lambda m, path: fit(m, batches, 4, SGD(m), checkpoint=path, resume=True, progress=False), "optimizer"),
        (
            lambda m, path: fit(m, batches, 4, AdamW(m), checkpoint=path, resume=True, progress=False, seed=1),
            "seed differ",
        ),
        (
            lambda m, path: fit(m, batches, 4, AdamW(m), checkpoint=path, resume=True, progress=False, clip=None),
            "clip differ",
        ),
        (
            lambda m, path: fit(
                m, batches, 4, AdamW(m), checkpoint=path, resume=True, progress=False, schedule=lambda step, steps: 1.0
            ),
            "its schedule differs, which gave 0.75 at step 2",
        ),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, other, message):
    model = lora()
    fit(model, batches, 4, AdamW(model), progress=False, checkpoint=tmp_path / "c")
    fresh = lora()
    before = weights(fresh)
    with pytest.raises(FileError, match=message):
        other(fresh, tmp_path / "c")
    assert same(before, weights(fresh))  # nothing of the checkpoint was taken over
    assert not same(before, weights(model))


def test_the_checkpoint_of_another_method_is_refused(tmp_path):
    model = lora()
    fit(model, batches, 2, AdamW(model), progress=False, checkpoint=tmp_path / "c")
    wider = lora(targets="*_proj")
    with pytest.raises(FileError, match="parameters, methods differ"):
        fit(wider, batches, 2, AdamW(wider), progress=False, checkpoint=tmp_path / "c", resume=True)


def test_early_stopping_returns_to_the_best_weights():
    model = lora()
    history = fit(model, batches, 200, SGD(model, lr=30.0), schedule=constant, clip=None, val=VAL, val_every=1,
                  patience=3, progress=False)  # fmt: skip
    assert history.stopped_early
    assert len(history.val_loss) == history.val_loss.index(min(history.val_loss)) + 4
    assert evaluate(model, VAL).loss == min(history.val_loss)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    model = lora()

    def poisoned(rng, calls=iter(range(99))):  # noqa: B008 - one counter for the whole run is the point
        if next(calls) == 6:
            next(iter(weights_of(model))).data[...] = np.nan
        return batches(rng)

    with pytest.raises(Diverged, match=r"loss is nan in step 7.*learning rate.*alpha / r") as caught:
        fit(model, poisoned, 20, AdamW(model), progress=False, checkpoint=tmp_path / "c", checkpoint_every=3)
    assert len(caught.value.history.loss) == 6
    again = lora()
    history = fit(again, batches, 20, AdamW(again), progress=False, checkpoint=tmp_path / "c", resume=True)
    assert len(history.loss) == 20
    assert np.isfinite(history.loss).all()


def weights_of(model):
    return [p for _, p in model.named_parameters() if p.requires_grad]


def test_a_rate_that_is_far_too_high_is_named():
    model = get_peft_model(tiny_model(), LoRA(r=2, alpha=1e200))
    with pytest.raises(Diverged, match=r"Likely causes.*\[1e\+200\]"):
        fit(model, batches, 9, SGD(model, lr=1e200), schedule=constant, clip=None, progress=False)


def test_impossible_runs_are_refused():
    model = lora()
    with pytest.raises(ValueError, match="at least 1"):
        fit(model, batches, 0, AdamW(model))
    with pytest.raises(ValueError, match="patience needs val"):
        fit(model, batches, 5, AdamW(model), patience=2)
    with pytest.raises(ValueError, match="no batch"):
        evaluate(model, [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 2.5}, "steps must be a whole number of at least 1, not 2.5"),
        ({"steps": math.nan}, "steps must be"),
        ({"steps": True}, "steps must be"),
        ({"steps": "20"}, "steps must be"),
        ({"val_every": 2.5}, "val_every must be"),
        ({"checkpoint_every": 0.5}, "checkpoint_every must be"),
        ({"patience": 0}, "patience must be a whole number of at least 1, not 0"),
        ({"patience": 1.5}, "patience must be"),
        ({"seed": -1}, "seed must be a whole number of at least 0, or None, not -1"),
        ({"seed": np.random.default_rng(0)}, "seed must be"),
        ({"resume": True}, "resume needs checkpoint"),
        ({"schedule": lambda step, steps: math.nan}, r"schedule\(0, 3\) must give a number of at least 0, not nan"),
        ({"schedule": lambda step, steps: -1.0}, "must give a number"),
        ({"schedule": lambda step, steps: None}, "must give a number"),
        ({"clip": 0}, "max_norm must be above 0"),
        ({"clip": -1.0}, "max_norm must be above 0"),
        ({"clip": math.nan}, "max_norm must be above 0"),
        ({"batches": lambda rng: batches(rng)[0]}, r"a batch is \(ids, targets\)"),
        ({"batches": lambda rng: None}, r"a batch is \(ids, targets\) or .* not a NoneType"),
        ({"batches": lambda rng: iter([batches(rng)])}, r"a batch is \(ids, targets\)"),
    ],
    ids=name_of,
)
def test_a_run_that_cannot_be_is_refused_before_anything_is_trained(settings, message):
    model = lora()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        fit(
            model,
            **({"batches": batches, "steps": 3, "optimizer": AdamW(model), "val": VAL} | settings),
            progress=False,
        )
    assert same(before, weights(model))


def test_validation_takes_a_generator_and_says_what_a_function_is():
    model = lora()
    history = fit(model, batches, 4, AdamW(model), val=iter(VAL), val_every=1, progress=False)
    assert len(history.val_loss) == 5
    with pytest.raises(TypeError, match="takes the batches themselves"):
        fit(model, batches, 4, AdamW(model), val=batches, progress=False)
    with pytest.raises(TypeError, match="takes the batches themselves"):
        evaluate(model, batches)


def freeze(model):
    model.requires_grad_(False)


def add_another(model):
    get_peft_model(model, Adapter(m=2))


@pytest.mark.parametrize("act", [merge, unwrap, freeze, add_another])
def test_an_optimizer_of_what_is_no_longer_trained_is_refused(act):
    """It would run to the end, and train nothing."""
    model = lora()
    optimizer = AdamW(model)
    act(model)
    before = snapshot(model)
    with pytest.raises(ValueError, match="frozen, or no longer in the model"):
        fit(model, batches, 3, optimizer, progress=False)
    assert snapshot(model) == before


def test_an_optimizer_of_another_model_or_a_disabled_one_is_refused():
    model = lora()
    with pytest.raises(ValueError, match="frozen, or no longer in the model"):
        fit(model, batches, 3, AdamW(lora()), progress=False)
    with disabled(model), pytest.raises(ValueError, match="disabled"):
        fit(model, batches, 3, AdamW([Parameter(np.ones(1))]), progress=False)


def test_a_place_for_the_checkpoint_is_looked_for_before_training(tmp_path, monkeypatch):
    model = lora()
    before = weights(model)
    for path, message in ((tmp_path, "is a folder"), ("", "is a folder"), (tmp_path / "no" / "c", "there is no fol")):
        with pytest.raises(FileError, match=message):
            fit(model, batches, 3, AdamW(model), checkpoint=path, progress=False)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(FileError, match="may not be written to"):
        fit(model, batches, 3, AdamW(model), checkpoint=tmp_path / "c", progress=False)
    assert same(before, weights(model))
    assert not list(tmp_path.iterdir())


def test_weights_that_the_last_step_spoilt_are_not_saved_over_good_ones(tmp_path):
    model = lora()
    fit(model, batches, 3, SGD(model, lr=0.1), progress=False, checkpoint=tmp_path / "c", checkpoint_every=2)
    good = (tmp_path / "c").read_bytes()
    with pytest.raises(Diverged, match="norm of the weights is nan after step 2"):
        fit(model, batches, 3, SGD(model, lr=1.7e308), schedule=lambda step, steps: 10.0 * step, clip=None, progress=False,
            checkpoint=tmp_path / "c", checkpoint_every=2)  # fmt: skip
    assert (tmp_path / "c").read_bytes() == good
    model = lora()
    with pytest.raises(Diverged, match="norm of the weights is nan after step 1"):
        fit(model, batches, 1, SGD(model, lr=1.7e308), schedule=lambda step, steps: 10.0, clip=None, progress=False)


@pytest.mark.parametrize("name", ["base", "targets", "alpha", "seed", "dtype"])
def test_a_checkpoint_whose_arrays_would_fit_another_run_is_refused(name, tmp_path):
    """The same shapes, but not the same model: nothing would look wrong."""
    model = lora(train="B")
    fit(model, batches, 2, SGD(model), progress=False, checkpoint=tmp_path / "c")
    base = off_start(tiny_model()) if name == "base" else tiny_model()
    if name == "dtype":
        base = tiny_model(type(CONFIG)(**(vars(CONFIG) | {"dtype": "float32"})))
    settings = {"targets": {"targets": "*.[qk]_proj"}, "alpha": {"alpha": 4}}.get(name, {})
    other = get_peft_model(base, LoRA(**({"r": 2, "train": "B"} | settings)), seed=int(name == "seed"))
    before = weights(other)
    with pytest.raises(FileError, match=r"(parameters|methods) differ"):
        fit(other, batches, 2, SGD(other), progress=False, checkpoint=tmp_path / "c", resume=True)
    assert same(before, weights(other))


def test_a_run_that_stops_early_writes_its_end(tmp_path):
    settings = {"schedule": constant, "clip": None, "val": VAL, "val_every": 1, "patience": 3, "progress": False,
                "checkpoint": tmp_path / "c"}  # fmt: skip
    model, again = lora(), lora()
    history = fit(model, batches, 200, SGD(model, lr=30.0), **settings)
    assert history.stopped_early
    resumed = fit(again, stopping_at(0), 200, SGD(again, lr=30.0), resume=True, **settings)  # no step is left to do
    assert resumed.loss == history.loss
    assert same(weights(model), weights(again))


@pytest.mark.parametrize("wrong", [lambda ids, targets: (ids, targets[:, :2]), lambda ids, targets: (ids, targets[:1]),
                                   lambda ids, targets: (ids, targets, np.ones(6))])  # fmt: skip
def test_a_batch_that_does_not_fit_together_is_told_in_words(wrong):
    with pytest.raises(ValueError, match=r"need targets of shape|mask needs the targets' shape"):
        evaluate(lora(), [wrong(*VAL[0])])


def test_batches_may_be_lists():
    model = lora()
    lists = [tuple(array.tolist() for array in VAL[0])]
    assert evaluate(model, lists) == evaluate(model, VAL)


def test_evaluate_counts_what_the_mask_counts(batch):
    ids, targets, mask = batch
    model = lora(dropout=0.5)
    logits, _ = model.eval()(ids)
    hits = logits.argmax(-1) == targets
    model.train()
    scores = evaluate(model, [(ids[:2], targets[:2], mask[:2]), (ids[2:], targets[2:], mask[2:])])
    z = logits - logits.max(-1, keepdims=True)
    nll = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(scores.loss, nll[mask].mean())
    np.testing.assert_allclose(scores.bits, nll[mask].mean() / np.log(2))
    np.testing.assert_allclose(scores.accuracy, hits[mask].mean())
    assert scores.exact == (hits | ~mask).all(-1).mean()
    assert scores.tokens == mask.sum()
    assert model.training
    assert model.h[0].attn.q_proj.dropout.training
