"""Four questions to a layer: does it start as the base, are its gradients right, does it learn, and what is lost?"""

from functools import partial

import numpy as np

from ..methods.method import disabled
from ..model.module import evaluating
from ..training.data import new_sequences, symbols_batch, symbols_batches
from ..training.evaluation import evaluate
from ..training.loop import fit
from ..training.optimizers import AdamW, constant
from .gradcheck import off_zero, wrong_gradients
from .sweeps import sweep
from .table import Table


def examine(makers, task="near", steps=40, lr=2e-2, n=16, seeds=(0, 1, 2), old=("reverse", "plus")):
    """Examine models on the base `symbols`; return a Table with a row for each.  makers: {name: make}, make(seed) -> model.

    logits moved    by how much the logits differ from the base's before any training
    gradients       how many are wrong, measured off zero, of how many
    loss, exact     on 128 new sequences of the task after a short training, for every seed
    old tasks       exact sequences of tasks that the base could do, their mean, for every seed.  Not copy: the new tasks
                    stand under its token, and one token cannot mean both

    lr: one for all, or {name: lr}.  A run that is wrecked counts as NaN.

    A loss that falls does not prove a gradient, and gradients that are right do not prove that a method forgets nothing.
    """
    layers = {name: (make, lr[name] if isinstance(lr, dict) else lr) for name, make in makers.items()}
    trained = sweep(
        partial(short_training, task=task, steps=steps, n=n, old=old), {"layer": layers}, seeds, progress=False
    )
    batch = symbols_batch(task, np.random.default_rng(3), 4)
    rows = []
    for name, make in makers.items():
        start, wrong = difference_from_base(make(seeds[0]), batch[0]), wrong_gradients(off_zero(make(seeds[0])), batch)
        ends = [" ".join(format(value, form) for value in trained.values(measure, layer=name))
                for measure, form in (("loss", ".3f"), ("exact", ".0%"), ("old", ".0%"))]  # fmt: skip
        rows.append((name, "0 exactly" if start == 0 else f"{start:.2g}", f"{len(wrong)} of {wrong.of}", *ends))
    each = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    columns = ["", "logits moved\nat the start", "gradients\nwrong", f"loss of {task}\n{each}", f"{task},\nexact"]
    return Table([*columns, "old tasks,\nexact"], rows)


def short_training(layer, seed, task, steps, n, old):
    """Train a layer, (make, lr): {"loss", "exact"} on new sequences of the task, and "old", the exact ones of others."""
    make, lr = layer
    model = make(seed)
    fit(model, symbols_batches(task, n), steps, AdamW(model, lr=lr), seed=seed, schedule=constant, progress=False)
    new = evaluate(model, new_sequences(task))
    kept = [evaluate(model, new_sequences(one)).exact for one in old]
    return {"loss": new.loss, "exact": new.exact, "old": float(np.mean(kept))}


def difference_from_base(model, ids):
    """The largest difference of any logit from the base's."""
    with evaluating(model):
        logits = model(ids)[0]
        with disabled(model):
            return float(np.abs(model(ids)[0] - logits).max())
