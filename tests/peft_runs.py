"""What Hugging Face peft computes on a tiny GPT-2, as arrays in minipeft's names.  Needs torch, transformers and peft.

Used by the makers of stored arrays, make_dora_arrays.py and others, and by the tests where peft is installed.  parity.py
compares minipeft with what comes out.
"""

import peft
import torch
from make_torch_arrays import ours, split
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

PARTS = {"attn.c_attn": [f"attn.{letter}_proj" for letter in "qkv"]}  # parts that stand side by side in one matrix
SHAPE = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
ENDS = {"bos_token_id": None, "eos_token_id": None}


class FixedMask(nn.Module):
    """A dropout that has drawn already."""

    def __init__(self, M):
        super().__init__()
        self.M = M

    def forward(self, x):
        return self.M * x


class Run:
    """A random GPT-2 in float64 with a peft method in it, away from its start, and a batch."""

    def __init__(self, config, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # peft draws its starting values from the global generator
        no_dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "attn_implementation": "eager"}
        base = GPT2LMHeadModel(GPT2Config(**SHAPE, **ENDS, **no_dropout)).double()
        with torch.no_grad():
            for name, p in base.named_parameters():
                p.copy_((1 if "ln_" in name and "weight" in name else 0) + self.normal(*p.shape))
        self.saved = {f"weight/{path}": array.copy() for path, array in split(dict(base.named_parameters())).items()}
        self.model = peft.get_peft_model(base, config).double().eval()
        with torch.no_grad():
            for p in self.trained():
                p.add_(self.normal(*p.shape))
        N, T = 3, 5
        self.ids, self.targets = torch.randint(SHAPE["vocab_size"], (2, N, T), generator=self.generator)
        self.mask = (torch.rand(N, T, generator=self.generator) < 0.7).double()

    def normal(self, *shape):
        return 0.3 * torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def trained(self):
        return [p for p in self.model.parameters() if p.requires_grad]

    def layers(self, has):
        """(our path of the matrix, layer) of every layer that has this attribute, "lora_A" say."""
        for name, layer in self.model.base_model.model.named_modules():
            if hasattr(layer, has):
                yield ours(name), layer

    def drop(self, p):
        """Put masks that are drawn here in the place of every dropout, and keep them."""
        for name, layer in self.layers("lora_dropout"):
            shape = (*self.ids.shape, layer.in_features)
            M = (torch.rand(shape, generator=self.generator) >= p).double() / (1 - p)
            layer.lora_dropout["default"] = FixedMask(M)
            layer.train()
            self.saved |= {f"dropped/{path}": M for path in paths(name)}

    def forward(self):
        logits = self.model(self.ids).logits
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), self.targets, reduction="none")
        return logits, (losses * self.mask).sum() / self.mask.sum()

    def arrays(self, translate):
        """All arrays, after one forward and backward.

        translate(path of the matrix, layer, kind) gives {our path: tensor} for kind "data", {glob: tensor} for "grad": the
        sum of our gradients at all paths that the glob matches.
        """
        logits, loss = self.forward()
        loss.backward()
        saved = self.saved | {
            "ids": self.ids,
            "targets": self.targets,
            "mask": self.mask,
            "logits": logits,
            "loss": loss,
        }
        saved |= {f"own/{path}": array for path, array in translate("data").items()}
        saved |= {f"grad/{path}": array for path, array in translate("grad").items()}
        return {name: a.detach().numpy() if isinstance(a, torch.Tensor) else a for name, a in saved.items()}


def paths(matrix):
    """h.0.attn.c_attn is our h.0.attn.{q,k,v}_proj; others have their own name."""
    layer, leaf = matrix.rsplit(".", 2)[0], ".".join(matrix.split(".")[-2:])
    return [f"{layer}.{part}" for part in PARTS.get(leaf, [leaf])]


def together(matrix):
    """A glob that matches paths(matrix), and nothing else."""
    return matrix.replace("c_attn", "[qkv]_proj")


def cut(tensor, matrix):
    """{path: columns of the matrix that are this part's}."""
    parts = paths(matrix)
    return dict(zip(parts, tensor.chunk(len(parts), dim=-1), strict=True))
