"""Write qlora_arrays.npz: what bitsandbytes and peft compute, so that test_qlora.py can compare without them.

    python tests/tools/make_qlora_arrays.py        needs torch, peft and bitsandbytes, on a CPU

One Linear of 128 to 160 numbers in 4 bits, as bitsandbytes stores it without ("single/") and with ("double/") quantised
scales; and peft's LoRA on it: y, dx, dA, dB for one x and dy.  The 320 scales are more than one block of 256.

bitsandbytes' kernel for CPUs rounds about one scale in 600 to the second nearest of its 256 numbers; with this seed it
does so with none.
"""

from pathlib import Path

import bitsandbytes as bnb
import numpy as np
import peft
import torch

D_IN, D_OUT, R, ALPHA, SEED = 128, 160, 3, 5, 0


def in_4_bits(W, b, double):
    """A Linear4bit that holds W (I, O)."""
    layer = bnb.nn.Linear4bit(*W.shape, compute_dtype=torch.float32, compress_statistics=double, quant_type="nf4")
    settings = {"quant_type": "nf4", "compress_statistics": double, "module": layer, "requires_grad": False}
    layer.weight = bnb.nn.Params4bit(torch.tensor(W.T.copy()), **settings)
    layer.bias = torch.nn.Parameter(torch.tensor(b), requires_grad=False)
    return layer.to("cpu")


def arrays_of(layer):
    codes, state = layer.weight.data, layer.weight.quant_state
    found = {"codes": codes.flatten(), "scales": state.absmax}
    if state.nested:
        found |= {"scales_of_scales": state.state2.absmax, "mean": state.offset}
    W = bnb.functional.dequantize_4bit(codes, state).T
    return {name: tensor.numpy() for name, tensor in found.items()} | {"some_W": W.numpy()[:, ::16]}


def with_lora(layer, A, B, x, dy):
    """peft's LoRA on it, in training (else a kernel in bfloat16 may stand in): y, dx, dA, dB."""
    model = torch.nn.Sequential(layer)
    model.is_loaded_in_4bit = True
    model = peft.get_peft_model(model, peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=["0"])).train()
    lora, x = model.base_model.model[0], torch.tensor(x, requires_grad=True)
    assert type(lora).__module__ == "peft.tuners.lora.bnb"
    factors = lora.lora_A.default.weight, lora.lora_B.default.weight
    with torch.no_grad():
        for theirs, ours in zip(factors, (A, B), strict=True):
            theirs.copy_(torch.tensor(ours.T))
    y = model(x)
    y.backward(torch.tensor(dy))
    dA, dB = (theirs.grad.numpy().T for theirs in factors)
    return {"y": y.detach().numpy(), "dx": x.grad.numpy(), "dA": dA, "dB": dB}


def main():
    rng = np.random.default_rng(SEED)

    def normal(*shape, std=1.0):
        return rng.normal(0, std, shape).astype("f2").astype("f4")  # half of the bytes in the file are zeros

    given = {"weight": normal(D_IN, D_OUT, std=0.02), "bias": normal(D_OUT), "x": normal(2, 3, D_IN),
             "dy": normal(2, 3, D_OUT), "A": normal(D_IN, R, std=0.1), "B": normal(R, D_OUT, std=0.1)}  # fmt: skip
    out = dict(given)
    for name, double in ("single", False), ("double", True):
        layer = in_4_bits(given["weight"], given["bias"], double)
        found = arrays_of(layer) | with_lora(layer, *(given[key] for key in ("A", "B", "x", "dy")))
        out |= {f"{name}/{key}": array for key, array in found.items()}
    out["double/dynamic"] = bnb.functional.create_dynamic_map().numpy()
    np.savez_compressed(Path(__file__).resolve().parents[1] / "data" / "qlora_arrays.npz", **out)


if __name__ == "__main__":
    main()
