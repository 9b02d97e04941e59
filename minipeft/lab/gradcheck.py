"""Every gradient is guilty until checked: hand-written ones against finite differences.  Lesson 01 builds it."""

import numpy as np


def gradcheck(loss, parameters, rng, eps=1e-5):
    """Compare each parameter's gradient with a central difference along one random direction v.

        ⟨dL/dp, v⟩  ≈  (L(p + ε v) − L(p − ε v)) / 2 ε

    One direction checks a whole array: a wrong entry shows unless v happens to be orthogonal to the error.  Do it where
    nothing is zero: at B = 0 a wrong dA of LoRA passes.

    loss: a function without arguments that returns (L, backward) for the parameters as they are now, the same each time
    (reset the generator of a dropout inside it).  parameters: Parameters, or (path, Parameter) pairs; frozen ones are
    left out.

    Returns {path: relative error}: below about 1e-6 in float64 where the gradient is right.
    Raises: ValueError if nothing is trained
    """
    named = [p if isinstance(p, tuple) else (str(i), p) for i, p in enumerate(parameters)]
    named = [(path, p) for path, p in named if p.requires_grad]
    if not named:
        raise ValueError("nothing to check: no parameter is trained")
    for _, p in named:
        p.grad.fill(0)
    _, backward = loss()
    backward()
    return {path: directional_error(lambda: loss()[0], p.data, p.grad, rng, eps) for path, p in named}


def gradcheck_layer(layer, inputs, rng, eps=1e-5):
    """Check a layer by itself, its parameters and its inputs, under the loss Σ w ⊙ y with random weights w.

    Returns {path or "input 0", ...: relative error}; integer inputs have no gradient and are left out.
    """
    y, _ = layer(*inputs)
    w = rng.normal(size=y.shape).astype(y.dtype)
    trained = [(path, p) for path, p in layer.named_parameters() if p.requires_grad]
    for _, p in trained:
        p.grad.fill(0)
    d_inputs = layer(*inputs)[1](w)
    d_inputs = d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)

    def loss():
        return float((layer(*inputs)[0] * w).sum(dtype="float64"))

    errors = {path: directional_error(loss, p.data, p.grad, rng, eps) for path, p in trained}
    for i, (x, dx) in enumerate(zip(inputs, d_inputs, strict=True)):
        if x.dtype.kind == "f":
            errors[f"input {i}"] = directional_error(loss, x, dx, rng, eps)
    return errors


def directional_error(loss, array, gradient, rng, eps):
    """|⟨gradient, v⟩ − central difference along v|, relative to the larger of the two; array is left as it was."""
    v = rng.normal(size=array.shape).astype(array.dtype)
    kept = array.copy()
    exact = float(np.vdot(gradient, v))
    array[...] = kept + eps * v
    up = loss()
    array[...] = kept - eps * v
    down = loss()
    array[...] = kept
    numeric = (up - down) / (2 * eps)
    return abs(exact - numeric) / max(abs(exact), abs(numeric), 1e-5)  # below, rounding of the loss rules
