"""SGD and AdamW, gradient clipping, and the learning rate along a run."""

import math

import numpy as np

from ..methods import parameter_groups
from ..model.module import Module, Parameter
from ..validation import is_real

BLOCK = 1 << 16  # numbers that are updated at a time: their gradient and moments then stay in the processor's cache


def blocks(*arrays):
    """The same short stretches of several arrays, as flat views: a long update then makes no long temporaries."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield [array[start : start + BLOCK] for array in flat]


class Optimizer:
    """What SGD and AdamW share: groups of trained parameters, each with its own settings.

    parameters: a model, whose methods may ask for groups (LoRA+: B faster than A); or Parameters; or (path, Parameter)
    pairs, as named_parameters() gives them; or groups such as {"params": [...], "lr": 1e-3}, whose settings go before
    those of the optimizer.  Frozen parameters are left out.

    Raises: ValueError if nothing is trained, a setting is unknown or out of range, or a parameter stands twice;
    TypeError for what holds no Parameters
    """

    slots = 0  # arrays of state for each parameter
    ranges = {"lr": (0, math.inf), "weight_decay": (0, math.inf)}

    def __init__(self, parameters, **settings):
        groups = parameter_groups(parameters, settings["lr"]) if isinstance(parameters, Module) else parameters
        if not (isinstance(groups, (list, tuple)) and groups and isinstance(groups[0], dict)):
            groups = [{"params": groups}]
        self.groups, seen = [], set()
        for group in groups:
            unknown = group.keys() - settings.keys() - {"params"}
            if unknown:
                raise ValueError(f"{type(self).__name__} has no setting {sorted(unknown)}; it has {sorted(settings)}")
            params = [p for p in parameters_in(group.get("params")) if p.requires_grad]
            if seen & {id(p) for p in params} or len({id(p) for p in params}) < len(params):
                raise ValueError("a parameter stands in two groups, or twice in one: it would be updated twice a step")
            seen |= {id(p) for p in params}
            group = settings | group | {"params": params}
            for name, (low, high) in self.ranges.items():
                if name in group and not (is_real(group[name]) and low <= group[name] < high):
                    raise ValueError(f"{name} must lie in [{low}, {high}), not {group[name]!r}")
            self.groups.append(group)
        if not seen:
            raise ValueError("nothing to train: every parameter is frozen (get_peft_model adds trained ones)")
        self.steps = 0
        self.state = [[np.zeros(p.data.shape, p.data.dtype) for _ in range(self.slots)] for p in self.parameters()]

    def parameters(self):
        return [p for group in self.groups for p in group["params"]]

    def zero_grad(self):
        for p in self.parameters():
            if p.grad is None:
                raise ValueError(
                    "a parameter of this optimizer is frozen now: make the optimizer after get_peft_model, load_adapter or "
                    "unwrap, and not for what is disabled"
                )
            p.grad.fill(0)

    def step(self, lr_factor=1.0):
        """One update of every parameter, at lr_factor times the learning rate of its group."""
        if not is_real(lr_factor) or lr_factor < 0:
            raise ValueError(f"lr_factor must be a number of at least 0, not {lr_factor!r}")
        if not all(p.data.flags.c_contiguous and p.grad.flags.c_contiguous for p in self.parameters()):
            raise ValueError(
                "an optimizer updates arrays whose numbers lie in C order, and .data or .grad of a parameter is transposed "
                "or a part of another array: give it np.ascontiguousarray of that"
            )  # its flat view would be a copy, and the update lost
        self.steps += 1
        state = iter(self.state)
        for group in self.groups:
            for p in group["params"]:
                self.update(p, next(state), group["lr"] * lr_factor, group)

    def nbytes(self):
        """Bytes of state that the optimizer keeps."""
        return sum(array.nbytes for arrays in self.state for array in arrays)


def parameters_in(params):
    """The Parameters of a model, or of an iterable of Parameters or (path, Parameter) pairs."""
    named = params.named_parameters() if isinstance(params, Module) else params
    found = [p[1] if isinstance(p, tuple) else p for p in named] if np.iterable(named) else [named]
    if wrong := [p for p in found if not isinstance(p, Parameter)]:
        raise TypeError(f"an optimizer takes a model, Parameters or (path, Parameter) pairs, not {wrong[0]!r:.50}")
    return found


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (as torch has it).

        g <- g + λ p,   u <- μ u + g,   p <- p − lr u

    λ is weight_decay, and lr the rate of this step, after the schedule.  Without momentum u is g, and is not kept.
    """

    ranges = Optimizer.ranges | {"momentum": (0, 1)}

    def __init__(self, parameters, lr=0.1, momentum=0.0, weight_decay=0.0):
        self.slots = 1 if momentum else 0
        super().__init__(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if not self.slots and any(group["momentum"] for group in self.groups):
            raise ValueError("give momentum to SGD itself, not to one group")

    def update(self, p, state, lr, group):
        for data, g, *u in blocks(p.data, p.grad, *state):
            if group["weight_decay"]:
                g = g + group["weight_decay"] * data
            if u:
                u[0] *= group["momentum"]
                u[0] += g
                g = u[0]
            data -= lr * g


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2; as torch has it).

        m <- m + (1 − β₁) (g − m),   v <- v + (1 − β₂) (g² − v)
        w <- w − lr λ w − lr m̂ / (√v̂ + ε),   m̂ = m / (1 − β₁ᵗ),   v̂ = v / (1 − β₂ᵗ)

    λ is weight_decay, and lr the rate of this step, after the schedule.  In the paper λ is multiplied by the schedule
    only, and not by the rate: divide a λ from there by the peak rate.

    m and v are two numbers for every trained one: what PEFT saves most of.
    """

    slots = 2
    ranges = Optimizer.ranges | {"beta1": (0, 1), "beta2": (0, 1), "eps": (0, math.inf)}

    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        beta1, beta2 = betas
        super().__init__(parameters, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def update(self, p, state, lr, group):
        b1, b2, eps, decay = group["beta1"], group["beta2"], group["eps"], group["weight_decay"]
        unbias_m, unbias_v = 1 / (1 - b1**self.steps), 1 / (1 - b2**self.steps)
        for w, g, m, v in blocks(p.data, p.grad, *state):
            m += (1 - b1) * (g - m)
            v += (1 - b2) * (g * g - v)
            if decay:
                w -= lr * decay * w
            w -= lr * unbias_m * m / (np.sqrt(unbias_v * v) + eps)


def clip_grad_norm(parameters, max_norm):
    """Scale all gradients so that their common norm is at most max_norm; return the norm before (Pascanu et al., 2013).

    max_norm None only measures.

    Raises: ValueError for a max_norm that is not above 0: it would turn the step around, or stop it
    """
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, or None for no limit, not {max_norm!r}")
    parameters = list(parameters)  # an iterator would be used up by the norm
    norm = math.sqrt(sum(float(np.vdot(p.grad, p.grad)) for p in parameters))
    if max_norm is not None and norm > max_norm:
        for p in parameters:
            p.grad *= max_norm / norm
    return norm


def constant(step, steps):
    """The same learning rate all along."""
    return 1.0


def warmup_cosine(step, steps, warmup=None, floor=0.0):
    """Factor of the learning rate at step 0 ... steps − 1: up a line, then down half a cosine to `floor`.

    warmup: steps of the line; a tenth of the run, at most 100, if not given.
    """
    warmup = max(1, min(100, steps // 10)) if warmup is None else warmup
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
