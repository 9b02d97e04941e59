"""Several threads: the same gradients, the same bits again, and nothing of a replica in the model."""

import numpy as np
import pytest
from specimens import CASES, gradients, tiny_batch, tiny_model, tiny_peft

from minipeft import AdamW, LoRA, evaluate, fit, get_peft_model, train_step
from minipeft.methods import DoRA, VeRA
from minipeft.training.data import symbols_batch
from minipeft.training.step import add_gradients
from minipeft.training.workers import replica, sharing, split

SMOOTH = [case for case in CASES if "dropout" not in case and case not in ("lora-small", "stack-net")]


def batches(rng):
    ids, targets = rng.integers(0, 13, (2, 5, 6))
    return ids, targets


def trained(workers, method, steps=6, **settings):
    model = get_peft_model(tiny_model(), method)
    history = fit(model, batches, steps, AdamW(model, lr=0.02), progress=False, workers=workers, **settings)
    return history.loss, [p.data.tobytes() for _, p in model.named_parameters()]


@pytest.mark.parametrize("case", SMOOTH)
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_shares_of_a_batch_have_the_gradients_of_the_whole(case, workers):
    """Five rows among up to four threads, with a mask that counts other numbers in each."""
    model, batch = tiny_peft(case), tiny_batch(N=5)
    loss = add_gradients(model, batch)
    whole = gradients(model)
    model.zero_grad()
    with sharing(model, workers) as (backpropagate, _):
        assert backpropagate(model, batch) == pytest.approx(loss, rel=1e-13)
    for path, grad in gradients(model).items():
        assert np.allclose(grad, whole[path], rtol=1e-10, atol=1e-13), path


@pytest.mark.parametrize("method", [DoRA(r=2), VeRA(r=4)], ids=lambda method: method.name)
def test_a_training_on_two_threads_is_that_on_one(method, batch):
    """Lengths and projections, which several layers or threads may share, too."""
    losses = []
    for workers in (1, 2):
        model = get_peft_model(tiny_model(), method)
        losses.append(fit(model, [batch], 5, AdamW(model, lr=0.05), progress=False, workers=workers).loss)
    assert np.allclose(*losses, rtol=1e-12)


@pytest.mark.parametrize("method", [LoRA(r=2), LoRA(r=2, dropout=0.3), *[CASES[case] for case in ("adapter", "full")]])
def test_the_same_seed_and_number_of_workers_give_the_same_bits(method):
    assert trained(2, method) == trained(2, method)
    assert np.allclose(trained(2, method)[0][:1], trained(1, method)[0][:1], rtol=0.2)


def test_replicas_draw_dropout_of_their_own():
    model = get_peft_model(tiny_model(), LoRA(r=2, dropout=0.5)).train()
    twins = [replica(model, k) for k in (1, 2)]
    masks = [one.h[0].attn.q_proj.dropout.rng.random(8).tolist() for one in (model, *twins)]
    assert len({tuple(mask) for mask in masks}) == 3


def test_a_replica_has_the_same_arrays_and_gradients_of_its_own():
    model = get_peft_model(tiny_model(), LoRA(r=2))
    twin = replica(model, 1)
    for (path, p), (_, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert p.data is q.data, path
        assert (p is q) == (p.grad is None), path
        assert p.grad is None or p.grad is not q.grad, path
    assert twin.lm_head.weight is twin.wte.weight


def test_a_run_on_two_threads_resumes_bit_for_bit(tmp_path):
    method = LoRA(r=2, dropout=0.3)
    whole = trained(2, method, steps=8)

    def stopping(rng, calls=iter(range(99))):  # noqa: B008 - one counter for the whole run is the point
        if next(calls) == 5:
            raise KeyboardInterrupt
        return batches(rng)

    model = get_peft_model(tiny_model(), method)
    settings = {"progress": False, "workers": 2, "checkpoint": tmp_path / "c", "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        fit(model, stopping, 8, AdamW(model, lr=0.02), **settings)
    assert trained(2, method, steps=8, checkpoint=tmp_path / "c", resume=True) == whole
    with pytest.raises(ValueError, match="workers differ"):
        trained(1, method, steps=8, checkpoint=tmp_path / "c", resume=True)


def test_a_share_without_a_target_that_counts_is_left_out():
    ids, targets = np.zeros((2, 4, 3), int)
    mask = np.zeros((4, 3), bool)
    mask[3, 1] = True
    model = get_peft_model(tiny_model(), LoRA(r=2))
    assert [share for _, share in split((ids, targets, mask), 2)] == [0, 1]
    one, _ = train_step(model, (ids, targets, mask), AdamW(model))
    model = get_peft_model(tiny_model(), LoRA(r=2))
    with sharing(model, 2) as (backpropagate, _):
        two, _ = train_step(model, (ids, targets, mask), AdamW(model), backpropagate=backpropagate)
    assert one == pytest.approx(two, rel=1e-14)


def test_more_workers_than_rows():
    assert len(trained(4, LoRA(r=2), steps=2, val=[tiny_batch(N=1)])[0]) == 2


def test_one_batch_that_counts_nothing_does_not_stop_the_evaluation_of_the_others():
    model, batch = tiny_model(), tiny_batch()
    nothing = (*batch[:2], np.zeros_like(batch[2]))
    assert evaluate(model, [nothing, batch, nothing]) == evaluate(model, [batch])
    with pytest.raises(ValueError, match="no batch has a target that counts"):
        evaluate(model, [nothing])


def test_sequences_without_a_target_that_counts_are_not_counted_as_exact():
    ids, targets, mask = symbols_batch("copy", np.random.default_rng(0), 4)
    mask[:2] = False
    model = get_peft_model(tiny_model(), LoRA(r=2))
    ids, targets = ids % 13, targets % 13
    assert evaluate(model, [(ids[:, :16], targets[:, :16], mask[:, :16])]).exact == 0


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_are_a_whole_number(workers):
    with pytest.raises(ValueError, match="workers must be a whole number"):
        trained(workers, LoRA(r=2))
