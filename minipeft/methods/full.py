"""Full fine-tuning: the baseline that every PEFT method is measured against.

Lesson 04 trains it, and looks at what changed.
"""

from dataclasses import dataclass

from .method import Method, thaw


@dataclass
class FullFineTuning(Method):
    """Train every parameter of the base.  Nothing is wrapped; what the weights were is kept beside them.

        y = x W + b
        dW = xᵀ dy,   db = Σ dy                                   (every Linear; the other layers likewise)

    Trains:   V D + n_positions D + n_layer (12 D² + 13 D) + 2 D numbers
    """

    name, lr, merges = "full", 1e-3, True

    def inject(self, model, rng):
        thaw(model, "*")
