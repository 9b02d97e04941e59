"""Every gradient is guilty until checked: hand-written ones against finite differences.  Lesson 01 builds it."""

import numpy as np

from ..methods import surrogate
from ..model.loss import cross_entropy
from ..model.module import Module
from ..training.step import parts
from ..training.workers import dropouts


def gradcheck(loss, parameters, rng: np.random.Generator | None = None, eps: float = 1e-5) -> dict[str, float]:
    """Compare each parameter's gradient with a central difference along one random direction v.

        ⟨dL/dp, v⟩  ≈  (L(p + ε v) − L(p − ε v)) / 2 ε

    One direction checks a whole array: a wrong entry shows unless v happens to be orthogonal to the error.  Do it where
    nothing is zero: at B = 0 a wrong dA of LoRA passes.

    - `gradcheck(model, batch)`: a model, and (ids, targets) or (ids, targets, mask)
    - `gradcheck(loss, parameters)`: any function without arguments that returns (L, backward) for the parameters as they
      are now, the same each time; and Parameters, or (path, Parameter) pairs

    Frozen parameters are left out.  rng draws the directions; a fresh generator, if none is given.  A model is checked
    as its surrogate: what a method takes as a constant on its way back (DoRA its norms) is held; a function is not.

    Returns {path: relative error}: below about 1e-6 in float64 where the gradient is right.
    Raises: ValueError if nothing is trained
    """
    rng = np.random.default_rng(0) if rng is None else rng
    if isinstance(loss, Module):
        with surrogate(loss) as model:
            return gradcheck(loss_of(model, parameters), model.named_parameters(), rng, eps)
    named = [p if isinstance(p, tuple) else (str(i), p) for i, p in enumerate(parameters)]
    named = [(path, p) for path, p in named if p.requires_grad]
    if not named:
        raise ValueError("nothing to check: no parameter is trained")
    for _, p in named:
        p.grad.fill(0)
    _, backward = loss()
    backward()
    return {path: directional_error(lambda: loss()[0], p.data, p.grad, rng, eps, True) for path, p in named}


def loss_of(model, batch):
    """loss() -> (L, backward) of a model on a batch, the same each time: dropouts draw the same masks again."""
    ids, targets, mask = parts(batch)
    states = [(dropout.rng, dropout.rng.bit_generator.state) for dropout in dropouts(model)]

    def loss():
        for generator, state in states:
            generator.bit_generator.state = state
        logits, back_model = model(ids)
        value, back_loss = cross_entropy(logits, targets, mask)
        return value, lambda: back_model(back_loss())

    return loss


def gradcheck_layer(
    layer: Module, inputs: tuple, rng: np.random.Generator | None = None, eps: float = 1e-5
) -> dict[str, float]:
    """Check a layer by itself, its parameters and its inputs, under the loss Σ w ⊙ y with random weights w.

    Returns {path or "input 0", ...: relative error}; integer inputs have no gradient and are left out.
    """
    with surrogate(layer):
        return errors_of_layer(layer, inputs, np.random.default_rng(0) if rng is None else rng, eps)


def errors_of_layer(layer, inputs, rng, eps):
    y, _ = layer(*inputs)
    w = rng.normal(size=y.shape).astype(y.dtype)
    trained = [(path, p) for path, p in layer.named_parameters() if p.requires_grad]
    for _, p in trained:
        p.grad.fill(0)
    d_inputs = layer(*inputs)[1](w)
    d_inputs = d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)

    def loss():
        return float((layer(*inputs)[0] * w).sum(dtype="float64"))

    errors = {path: directional_error(loss, p.data, p.grad, rng, eps, True) for path, p in trained}
    for i, (x, dx) in enumerate(zip(inputs, d_inputs, strict=True)):
        if x.dtype.kind == "f":
            errors[f"input {i}"] = directional_error(loss, x, dx, rng, eps, True)
    return errors


def directional_error(loss, array, gradient, rng, eps, again=False):
    """|⟨gradient, v⟩ − central difference along v|, relative to the larger of the two; array is left as it was.

        D(ε)  =  (L(p + ε v) − L(p − ε v)) / 2 ε  =  ⟨dL/dp, v⟩ + c ε² + O(ε⁴)

    again: where D(ε) is not as near as a right gradient mostly is, the step may be to blame: rounding, which is divided by
    ε, or c ε² where the loss bends much.  Then (4 D(h) − D(2 h)) / 3 is asked, too, which has no h²: at h = 4 ε and 32 ε
    against rounding, and at h = ε / 4.  A wrong gradient is far from all four.

    A v that happens to lie across the gradient makes both sides nearly zero, and rounding all there is: below a hundredth
    of ‖gradient‖, what ⟨gradient, v⟩ mostly is, they count as that.
    """
    v = rng.normal(size=array.shape).astype(array.dtype)
    exact, kept = float(np.vdot(gradient, v)), array.copy()

    def difference(step):
        try:
            array[...] = kept + step * v
            up = loss()
            array[...] = kept - step * v
            return (up - loss()) / (2 * step)
        finally:
            array[...] = kept

    def error(numeric):
        usual = float(np.linalg.norm(gradient)) / 100
        return abs(exact - numeric) / max(abs(exact), abs(numeric), usual, 1e-5)  # below, rounding of the loss rules

    def extrapolated(h):
        return error((4 * difference(h) - difference(2 * h)) / 3)

    first = error(difference(eps))
    return first if not again or first < 1e-7 else min(first, *(extrapolated(h * eps) for h in (4, 32, 1 / 4)))


def nudge(loss, array, eps=2.0**-10):
    """The slope of the loss in each number of an array, measured: up a little, down a little, and put back.

        (L(x + ε) − L(x − ε)) / 2 ε         for one entry after the other

    loss: a function without arguments that reads the array and returns a number.  Rounded to six decimals: of a loss of
    second degree, as those on paper are, the slopes come out exactly.

    Shapes:   array (...), slopes (...)
    Raises:   TypeError for an array that does not hold floats: a whole number cannot be moved a little
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise TypeError(f"nudge needs a NumPy array of floats, such as np.array([1.0, 2.0]), not {array!r:.60}")
    slopes = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        kept = array[place]
        try:
            array[place] = kept + eps
            up = float(loss())
            array[place] = kept - eps
            down = float(loss())
        finally:
            array[place] = kept
        slopes[place] = (up - down) / (2 * eps)
    return slopes.round(6) + 0.0


def off_zero(model, seed=0, scale=0.1):
    """Move every trained number by a random one, N(0, scale²), to where nothing is zero; return the model.

    At the start of LoRA B is zero, and then so is dA: a wrong one passes every check.
    """
    rng = np.random.default_rng(seed)
    for _, p in model.named_parameters():
        if p.requires_grad:
            p.data[...] += rng.normal(0, scale, p.data.shape).astype(p.data.dtype)
    return model


class Wrong(dict):
    """{path: relative error} of the gradients that are wrong; .of is how many were checked."""

    def __init__(self, errors, tolerance):
        super().__init__((path, error) for path, error in errors.items() if not error <= tolerance)
        self.of = len(errors)

    def __repr__(self):
        paths = ", ".join(list(self)[:4]) + (", ..." if len(self) > 4 else "")
        one = "gradient is" if self.of == 1 else "gradients are"
        return f"{len(self)} of {self.of} {one} wrong" + (f": {paths}" if self else "")


def wrong_gradients(model, batch, tolerance=1e-4, rng=None):
    """The gradients of a model that are wrong on a batch, {path: relative error}; it prints itself as "2 of 24 ...".

    The model is checked where it stands: see off_zero, and load it in float64.
    """
    return Wrong(gradcheck(model, batch, rng), tolerance)
