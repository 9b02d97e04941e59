"""Time a training step (forward, backward, AdamW) and its memory, beside torch and peft where they are installed.

Every figure comes from a process of its own, and the contestants take turns, so that a slow moment of the machine hits
all of them; what counts are the ratios.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from ..training.workers import LARGE
from .output import unread
from .settings import at_least

SIZES = {  # V, T, D, H, L, N
    "tiny": (96, 64, 64, 4, 2, 16),
    "small": (256, 128, 128, 4, 4, 16),
    "gpt2": (50257, 128, 768, 12, 12, 4),
}
WORK = {"tiny": (10, 100), "small": (3, 20), "gpt2": (1, 3)}  # warm-up steps and timed steps of one turn
TORCH = ("torch", "transformers", "peft")


def add_arguments(parser):
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES), help="default: all three")
    parser.add_argument("--threads", type=at_least(1), default=1, help="cores for each contestant (default: 1)")
    parser.add_argument("--workers", type=at_least(1), help="threads of ours that share each batch, the rest are the BLAS's "
                        "(default: all of --threads, where the model is large enough)")  # fmt: skip
    parser.add_argument("--turns", type=at_least(1), default=3, help="turns that each contestant gets (default: 3)")
    parser.add_argument("--one", nargs=2, metavar=("WHO", "SIZE"), help="time one contestant here and print JSON")


def run(args):
    if args.one:
        print(json.dumps(measure(*args.one, args.threads, args.workers or 1)))
        return
    beside = all(importlib.util.find_spec(name) for name in TORCH)
    if not beside:
        print(f"{', '.join(TORCH)} are not all installed: minipeft is timed alone.")
    contestants = ["lora", "full", *(["torch"] if beside else [])]
    print(f"float32, {args.threads} core(s); median ms a step, and peak MiB above what imports take\n")
    timed = f"{'LoRA: ms MiB':>14} {'full: ms MiB':>14} {'torch+peft: ms MiB':>18}"
    print(f"{'size':6} {timed}   LoRA/full  LoRA/torch  memory/torch")
    for size in args.sizes:
        workers = args.workers or (min(args.threads, 4) if SIZES[size][2] >= LARGE else 1)
        turns = [
            {who: measure_apart(who, size, args.threads, workers) for who in contestants} for _ in range(args.turns)
        ]
        print_row(size, turns, beside)
        if unread():
            return


def print_row(size, turns, beside):
    """One line: medians over the turns, and medians of the ratios within a turn."""

    def cell(who):
        ms, mb = (statistics.median(turn[who][key] for turn in turns) for key in ("ms", "peak_mb"))
        return f"{ms:7.1f} {mb:6.0f}"

    def ratio(a, b, key="ms"):
        return statistics.median(turn[a][key] / turn[b][key] for turn in turns)

    line = f"{size:6} {cell('lora')} {cell('full')} "
    line += f"{cell('torch'):>18}" if beside else f"{'-':>18}"
    line += f"   {ratio('lora', 'full'):9.2f}"
    if beside:
        line += f"  {ratio('lora', 'torch'):10.2f}  {ratio('lora', 'torch', 'peak_mb'):12.2f}"
    print(line, flush=True)


def measure_apart(who, size, threads, workers):
    """measure(...) in a fresh process, whose BLAS has its number of threads from the start."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    blas = threads if who == "torch" else max(1, threads // workers)
    environment = os.environ | dict.fromkeys(names, str(blas)) | {"TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, "-m", "minipeft", "bench", "--threads", str(threads), "--workers", str(workers)]
    command += ["--one", who, size]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{who} at size {size} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(who, size, threads=1, workers=1):
    """{"ms": median of the steps, "peak_mb": peak memory above that of the imports}."""
    import resource
    import time

    if who not in ("lora", "full", "torch") or size not in SIZES:
        raise ValueError(f"--one takes lora, full or torch, and a size of {', '.join(SIZES)}; not {who} {size}")
    step = torch_step if who == "torch" else numpy_step
    warm, timed = WORK[size]
    seconds = []
    with ExitStack() as stack:
        prepare = step(who, size, threads, workers, stack)
        imported = resident_kilobytes()
        one = prepare()
        for i in range(warm + timed):
            began = time.perf_counter()
            one()
            if i >= warm:
                seconds.append(time.perf_counter() - began)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported
    return {"ms": 1000 * statistics.median(seconds), "peak_mb": kilobytes / 1024}


def resident_kilobytes():
    """Memory in use now; where the system does not say, the peak so far."""
    import resource

    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def numpy_step(who, size, threads, workers, stack):
    import numpy as np

    from ..methods import FullFineTuning, LoRA, get_peft_model
    from ..model import GPT2, GPT2Config
    from ..process import computing
    from ..training import AdamW, train_step
    from ..training.workers import sharing

    def prepare():
        V, T, D, H, L, N = SIZES[size]
        model = GPT2(GPT2Config(V, T, D, L, H, dtype="float32"))
        get_peft_model(model, FullFineTuning() if who == "full" else LoRA(r=8, alpha=16))
        optimizer, rng = AdamW(model, lr=1e-4), np.random.default_rng(0)
        batch = rng.integers(0, V, (2, N, T))
        stack.enter_context(computing())
        backpropagate, _ = stack.enter_context(sharing(model, workers))
        return lambda: train_step(model, batch, optimizer, clip=None, backpropagate=backpropagate)

    return prepare


def torch_step(who, size, threads, workers, stack):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    def prepare():
        torch.set_num_threads(threads)
        V, T, D, H, L, N = SIZES[size]
        off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        config = GPT2Config(vocab_size=V, n_positions=T, n_embd=D, n_head=H, n_layer=L, use_cache=False, **off)
        lora = LoraConfig(r=8, lora_alpha=16, target_modules=["c_attn"], fan_in_fan_out=True)
        model = get_peft_model(GPT2LMHeadModel(config), lora)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        ids = torch.randint(0, V, (N, T))

        def one():
            optimizer.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()

        return one

    return prepare
