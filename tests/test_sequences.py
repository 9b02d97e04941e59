"""What goes wrong only in a sequence: starts, counts, threads, wraps by hand, and files, one after another."""

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
from specimens import snapshot, tiny_batch, tiny_model

from minipeft import (
    IA3,
    SGD,
    AdamW,
    Adapter,
    BitFit,
    FullFineTuning,
    LastBlocks,
    LoRA,
    PrefixTuning,
    QLoRA,
    Stack,
    VeRA,
    counting,
    disabled,
    fit,
    get_peft_model,
    gradcheck,
    load_adapter,
    save_adapter,
    train_step,
    unwrap,
)
from minipeft.files import FileError, read_npz, write_npz
from minipeft.methods.adapter import Bottleneck, SequentialAdapter
from minipeft.methods.ia3 import ScaledOutput
from minipeft.methods.lora import LoRALinear
from minipeft.process import state

BATCH = tiny_batch()
IDS = BATCH[0]


def logits(model):
    return model(IDS)[0]


BASE = logits(tiny_model())


@pytest.mark.parametrize(
    ("method", "glob"), [(BitFit(), "*.bias"), (LastBlocks(), "*.weight"), (FullFineTuning(), "*")]
)
def test_starting_values_leave_the_base_that_is_kept_alone(method, glob):
    model = get_peft_model(tiny_model(), method, start={glob: 0.5})
    assert not np.array_equal(logits(model), BASE)
    with disabled(model):
        assert np.array_equal(logits(model), BASE)
    assert np.array_equal(logits(unwrap(model)), BASE)
    with pytest.raises(ValueError, match="matches no trained"):
        get_peft_model(model, method, start={glob: 0.5, "typo": 1})
    assert np.array_equal(logits(model), BASE)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1j, "x"])
def test_starting_values_are_finite_numbers(value):
    with pytest.raises(ValueError, match="finite numbers"):
        get_peft_model(tiny_model(), LoRA(r=2), start={"*.B": value})


@pytest.mark.parametrize("method", [FullFineTuning(), LoRA(r=2), QLoRA(r=2), BitFit()])
def test_a_method_may_be_put_in_and_trained_while_products_are_counted(method, tmp_path):
    with counting():
        model = get_peft_model(tiny_model(), method)
        optimizer = AdamW(model)
        train_step(model, BATCH, optimizer)
        with disabled(model):
            pass
        save_adapter(model, tmp_path / "a.npz")
    kept = len(model.peft[0].kept)
    assert kept == len(get_peft_model(tiny_model(), method).peft[0].kept)
    assert type(logits(model)) is np.ndarray
    assert {type(array) for arrays in optimizer.state for array in arrays} == {np.ndarray}
    assert np.array_equal(logits(unwrap(model)), BASE)
    assert {type(p.data) for _, p in model.named_parameters()} == {np.ndarray}


def test_counting_changes_nothing_for_several_workers():
    def end(counted):
        model = get_peft_model(tiny_model(), LoRA(r=2))
        if counted:
            with counting() as flops:
                fit(model, [BATCH], 5, SGD(model, lr=0.3), workers=2, progress=False)
            assert flops.total > 0
        else:
            fit(model, [BATCH], 5, SGD(model, lr=0.3), workers=2, progress=False)
        return logits(model)

    assert np.array_equal(end(True), end(False))


def adapter_around(attn):
    return SequentialAdapter(attn, Bottleneck(8, 2, np.random.default_rng(0)))


def test_what_is_wrapped_by_hand_around_a_method_comes_off_and_goes_back():
    model = get_peft_model(tiny_model(), LoRA(r=2))
    get_peft_model(model, IA3(targets="*.c_fc", feedforward=()))
    model.wrap("h.1.attn", adapter_around)
    before = snapshot(model)
    with disabled(model):
        assert np.array_equal(logits(model), BASE)
    assert snapshot(model) == before
    assert np.array_equal(logits(unwrap(model)), BASE)


def test_what_is_wrapped_while_a_method_is_disabled_goes_again():
    model = get_peft_model(tiny_model(), LoRA(r=2), start={"*.B": 0.3})
    before, numbers = snapshot(model), logits(model)
    with disabled(model):
        model.wrap("h.1.attn", adapter_around)
    assert snapshot(model) == before
    assert np.array_equal(logits(model), numbers)


@pytest.mark.parametrize(
    "method",
    [
        Stack((Adapter(m=2), VeRA(r=2, targets="*"))),
        Stack((PrefixTuning(m=2), IA3(targets="*", feedforward=()))),
    ],
)
def test_what_is_saved_can_be_loaded(method, tmp_path):
    model = get_peft_model(tiny_model(), method)
    save_adapter(model, tmp_path / "a.npz")
    assert np.array_equal(logits(load_adapter(tiny_model(), tmp_path / "a.npz")), logits(model))


def test_what_was_wrapped_by_hand_is_not_saved_as_if_it_would_come_back(tmp_path):
    model = get_peft_model(tiny_model(), LoRA(r=2))
    model.wrap("*.c_fc", ScaledOutput)
    with pytest.raises(ValueError, match=r"h\.0\.mlp\.c_fc was wrapped by hand"):
        save_adapter(model, tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_a_layer_that_stands_in_several_places_is_wrapped_once():
    model = get_peft_model(tiny_model(), Stack((PrefixTuning(m=2, reparametrise=True), LoRA(r=2, targets="*"))))
    assert max(gradcheck(model, BATCH).values()) < 1e-6


def test_several_workers_train_what_was_wrapped_by_hand():
    model = tiny_model().requires_grad_(False)
    model.note = None
    model.wrap("*.q_proj", lambda linear: LoRALinear(linear, 2, 4, 0.1, np.random.default_rng(0)))
    fit(model, [BATCH], 2, SGD(model), workers=2, progress=False)
    assert model.note is None
    assert not np.array_equal(logits(model), BASE)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "batch",
    [(IDS[:2], BATCH[1]), (*BATCH[:2], np.ones((4, 6))), (IDS, BATCH[1][:2]), (3, 4)],
    ids=["ids", "mask", "targets", "numbers"],
)
def test_a_batch_that_does_not_fit_is_refused_in_the_same_words(batch, workers):
    model = get_peft_model(tiny_model(), LoRA(r=2))
    with pytest.raises(ValueError, match="shape"):
        fit(model, [batch], 1, SGD(model), workers=workers, progress=False)


@pytest.mark.parametrize("again", [True, False])
def test_a_run_does_not_go_on_with_other_frozen_numbers(again, tmp_path):
    """Drawn by chance, or trained before."""

    def make():
        model = get_peft_model(tiny_model(), LoRA(r=2, train="B"), seed=None if again else 0)
        if not again:
            fit(model, [BATCH], 2, SGD(model, lr=float(len(made))), progress=False)
            get_peft_model(model, Adapter(m=2))
        made.append(model)
        return model

    made = [None]
    one = make()
    fit(one, [BATCH], 2, SGD(one), checkpoint=tmp_path / "c", progress=False)
    other = make()
    with pytest.raises(FileError, match="frozen differ"):
        fit(other, [BATCH], 2, SGD(other), checkpoint=tmp_path / "c", resume=True, progress=False)


def test_while_a_method_is_disabled_nothing_of_the_base_is_trained():
    model = get_peft_model(tiny_model(), FullFineTuning())
    optimizer = SGD(model)
    with disabled(model), pytest.raises(ValueError, match="is frozen now"):
        train_step(model, BATCH, optimizer)
    train_step(model, BATCH, optimizer)
    assert np.array_equal(logits(unwrap(model)), BASE)


def test_an_optimizer_of_what_was_frozen_since_says_so():
    model = get_peft_model(tiny_model(), LoRA(r=2))
    optimizer = SGD(model)
    get_peft_model(model, Adapter(m=2))
    with pytest.raises(ValueError, match="make the optimizer after get_peft_model"):
        train_step(model, BATCH, optimizer)


@pytest.mark.parametrize("factor", [np.nan, -1, True, "1"])
def test_a_factor_of_the_learning_rate_is_a_number(factor):
    model = get_peft_model(tiny_model(), LoRA(r=2))
    before = deepcopy(model)
    with pytest.raises(ValueError, match="lr_factor must be a number"):
        train_step(model, BATCH, SGD(model), lr_factor=factor)
    assert np.array_equal(logits(model), logits(before))


def test_fits_that_overlap_in_two_threads_leave_the_process_as_it_was():
    both = threading.Barrier(2, timeout=5)  # an error in each thread that waits for the other in vain

    def batches(rng):
        both.wait()
        return BATCH

    def overlapping(_):
        model = get_peft_model(tiny_model(), LoRA(r=2))
        return fit(model, batches, 1, SGD(model), progress=False)

    with ThreadPoolExecutor(2) as pool:
        assert [len(history.loss) for history in pool.map(overlapping, range(2))] == [1, 1]
    assert state["inside"] == 0


def test_gradcheck_that_is_interrupted_leaves_the_numbers_alone():
    model = get_peft_model(tiny_model(), LoRA(r=2))
    before, calls = [p.data.copy() for _, p in model.named_parameters()], iter(range(99))

    def loss():
        if next(calls) == 2:
            raise KeyboardInterrupt
        return 1.0, lambda: None

    with pytest.raises(KeyboardInterrupt):
        gradcheck(loss, model.named_parameters())
    assert all(np.array_equal(p.data, a) for (_, p), a in zip(model.named_parameters(), before, strict=True))


def test_validation_without_a_batch_is_refused():
    model = get_peft_model(tiny_model(), LoRA(r=2))
    with pytest.raises(ValueError, match="val holds no batch"):
        fit(model, [BATCH], 2, SGD(model), val=[], patience=2, progress=False)


@pytest.mark.parametrize(
    "act", [unwrap, lambda model: save_adapter(model, "x"), lambda model: load_adapter(model, "x")]
)
def test_what_is_no_model_is_told_so(act, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_adapter(get_peft_model(tiny_model(), LoRA(r=2)), "x")
    with pytest.raises(TypeError, match="a model is needed"):
        act(None)


@pytest.mark.parametrize("name", ["settings", "step", "updates", "history", "best", "generators", "first_batch"])
def test_a_checkpoint_that_lacks_something_is_called_damaged(name, tmp_path):
    model = get_peft_model(tiny_model(), LoRA(r=2))
    fit(model, [BATCH], 2, SGD(model), checkpoint=tmp_path / "c", progress=False)
    header, arrays = read_npz(tmp_path / "c", "checkpoint")
    del header[name]
    write_npz(tmp_path / "c", header, arrays)
    with pytest.raises(FileError, match="is damaged"):
        fit(model, [BATCH], 2, SGD(model), checkpoint=tmp_path / "c", resume=True, progress=False)
