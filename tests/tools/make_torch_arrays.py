"""Write torch_arrays.npz: what torch computes, so that test_torch_parity.py can compare without torch.

    python tests/tools/make_torch_arrays.py        needs torch and transformers

A small random GPT2LMHeadModel in float64, with biases and gains away from 0 and 1.  Saved in minipeft's own names: the
weights, a batch, logits, loss and all gradients; the same with LoRA (W + s A B in place of W) and with a prefix (as past
keys and values), for the gradients of these alone.
"""

from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

L, D, H, V, N, T, R, M = 2, 16, 2, 23, 3, 7, 3, 4
SCALING = 5 / R


def ours(name):
    """A Hugging Face name in minipeft's; c_attn is split by split()."""
    return name.removeprefix("transformer.").replace("attn.c_proj", "attn.o_proj")


def split(arrays):
    """{Hugging Face name: tensor} -> {our path: array}; both keep weights as (in, out)."""
    out = {}
    for name, tensor in arrays.items():
        if ".c_attn." in name:
            for letter, third in zip("qkv", tensor.chunk(3, dim=-1), strict=True):
                out[ours(name).replace("c_attn", f"{letter}_proj")] = third.detach().numpy()
        else:
            out[ours(name)] = tensor.detach().numpy()
    return out


def forward(model, weights, ids, targets, mask, **more):
    logits = functional_call(model, weights, ids, {"use_cache": bool(more), **more}, tie_weights=True).logits
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return logits, (losses * mask).sum() / mask.sum()


def main():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape, std=0.3):
        return std * torch.randn(*shape, generator=generator, dtype=torch.float64)

    config = GPT2Config(vocab_size=V, n_positions=12, n_embd=D, n_layer=L, n_head=H, resid_pdrop=0, embd_pdrop=0,
                        attn_pdrop=0, attn_implementation="eager")  # fmt: skip
    model = GPT2LMHeadModel(config).double().train()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_((1 if "ln_" in name and "weight" in name else 0) + normal(*p.shape))
    ids, targets = torch.randint(V, (2, N, T), generator=generator)
    mask = (torch.rand(N, T, generator=generator) < 0.7).double()

    weights = dict(model.named_parameters())
    logits, loss = forward(model, weights, ids, targets, mask)
    loss.backward()
    saved = {"ids": ids, "targets": targets, "mask": mask, "logits": logits, "loss": loss}
    saved |= {f"weight/{path}": array for path, array in split(weights).items()}
    saved |= {f"grad/{path}": array for path, array in split({name: p.grad for name, p in weights.items()}).items()}

    # LoRA on q and v, the two outer thirds of c_attn
    weights = {name: p.detach() for name, p in weights.items()}
    lora = {f"h.{i}.attn.{letter}_proj.{AB}": normal(*((D, R) if AB == "A" else (R, D))).requires_grad_()
            for i in range(L) for letter in "qv" for AB in "AB"}  # fmt: skip
    delta = {path[:-2]: SCALING * lora[path[:-2] + ".A"] @ lora[path[:-2] + ".B"] for path in lora}
    adapted = dict(weights)
    for i in range(L):
        zero = torch.zeros(D, D, dtype=torch.float64)
        adapted[f"transformer.h.{i}.attn.c_attn.weight"] = weights[f"transformer.h.{i}.attn.c_attn.weight"] + torch.cat(
            [delta[f"h.{i}.attn.q_proj"], zero, delta[f"h.{i}.attn.v_proj"]], dim=1
        )
    logits, loss = forward(model, adapted, ids, targets, mask)
    loss.backward()
    saved |= {"lora/logits": logits, "lora/loss": loss}
    saved |= {f"lora/weight/{path}": p for path, p in lora.items()}
    saved |= {f"lora/grad/{path}": p.grad for path, p in lora.items()}

    # a prefix, as keys and values that are already past; (m, D) -> (N, H, m, K)
    prefix = {f"h.{i}.attn.core.P_{kv}": normal(M, D).requires_grad_() for i in range(L) for kv in "kv"}
    past = DynamicCache()
    for i in range(L):
        keys, values = (prefix[f"h.{i}.attn.core.P_{kv}"].view(M, H, -1).transpose(0, 1).expand(N, -1, -1, -1)
                        for kv in "kv")  # fmt: skip
        past.update(keys, values, i)
    logits, loss = forward(model, weights, ids, targets, mask, past_key_values=past)
    loss.backward()
    saved |= {"prefix/logits": logits, "prefix/loss": loss}
    saved |= {f"prefix/weight/{path}": p for path, p in prefix.items()}
    saved |= {f"prefix/grad/{path}": p.grad for path, p in prefix.items()}

    arrays = {name: a.detach().numpy() if isinstance(a, torch.Tensor) else a for name, a in saved.items()}
    np.savez_compressed(Path(__file__).resolve().parents[1] / "data" / "torch_arrays.npz", **arrays)


if __name__ == "__main__":
    main()
