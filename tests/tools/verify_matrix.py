"""The lessons on every kind of machine that this one can play: a line for each leg, and exit status 1 if one fails.

    python tests/tools/verify_matrix.py            # all legs: about four minutes a leg, and the time to install NumPys
    python tests/tools/verify_matrix.py blas       # only the processors: BLAS kernels, SIMD levels, threads
    python tests/tools/verify_matrix.py python     # only other Pythons (pythonX.Y on the PATH, uv's, pyenv's) and NumPys
    python tests/tools/verify_matrix.py 04 06      # only these lessons, with their exercises and solutions

OPENBLAS_CORETYPE chooses among the kernels of OpenBLAS, NPY_DISABLE_CPU_FEATURES NumPy's own exp, log and tanh.  Zen is
the Haswell kernel and Cooperlake is SkylakeX, so four kernels are all there are.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    "matplotlib",
    "tqdm",
    "joblib",
    "threadpoolctl>=3.5",
    "pytest>=8",
    "nbval>=0.11",
    "ipykernel",
    "jupytext>=1.16",
]
PYTHONS = [
    ("3.10", "numpy==1.26.4"),
    ("3.11", "numpy>=2.4,<2.5"),
    ("3.12", "numpy"),
    ("3.13", "numpy"),
    ("3.14", "numpy"),
]
PROBE = """
import json, numpy, platform
try:
    from numpy._core import _multiarray_umath as u
except ImportError:
    from numpy.core import _multiarray_umath as u
on = [name for name in u.__cpu_dispatch__ if u.__cpu_features__.get(name)]
print(json.dumps([platform.python_version(), numpy.__version__, on]))
"""


def probe(python, **environment):
    """[Python, NumPy, SIMD features in use], or None if it does not run."""
    try:
        result = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, env=os.environ | environment)
        return json.loads(result.stdout) if result.returncode == 0 else None
    except OSError:
        return None


def leg(name, python, targets, **environment):
    """Run pytest and print one line; True if it passed."""
    version, numpy, _ = probe(python)
    began = time.perf_counter()
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *targets]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)
    last = (result.stdout.strip().splitlines() or result.stderr.strip().splitlines() or ["no output"])[-1]
    counts = re.sub(r" in [\d.]+s.*|=+ ?", "", last).strip()
    ok = result.returncode == 0
    say(ok, name, f"Python {version}, NumPy {numpy}: {counts}", began)
    if not ok:
        print("\n".join("    " + line for line in result.stdout.splitlines()[-40:]))
    return ok


def say(ok, name, text, began=None):
    seconds = f" ({time.perf_counter() - began:.0f} s)" if began else ""
    print(f"{'ok     ' if ok else 'skipped' if ok is None else 'FAILED '} {name:42} {text}{seconds}", flush=True)


def lessons(numbers):
    """What to give to pytest for these lessons, or for all."""
    found = {n: [str(p.relative_to(ROOT)) for p in sorted((ROOT / "notebooks").rglob(f"{n}_*.ipynb"))] for n in numbers}
    if missing := [n for n, paths in found.items() if not paths]:
        sys.exit(f"no lesson {', '.join(missing)}: 04 and 06 are two of them")
    return [path for paths in found.values() for path in paths] or ["notebooks"]


def processors(targets):
    """The legs on this Python, each with other instructions."""
    python, (_, numpy, features) = sys.executable, probe(sys.executable)
    if platform.machine().lower() not in ("x86_64", "amd64"):
        say(None, "BLAS kernels", f"they are those of x86-64; this is {platform.machine()}")
        return [leg("as is", python, targets)]
    newest = [f for f in features if f.startswith(("AVX512", "X86_V4"))]
    newer = [f for f in features if f.startswith(("AVX2", "FMA3", "X86_V3"))] + newest
    results = [leg("as is", python, [] if targets == ["notebooks"] else targets)]
    for kernel, threads, off in (("Haswell", "2", newest), ("Nehalem", "1", newer), ("Prescott", "1", newer)):
        name = f"{kernel}, {threads} thread{'s' * (threads > '1')}, without {'AVX2 ' * (off is newer)}AVX512"
        if kernel == "Haswell" and tuple(map(int, numpy.split(".")[:2])) >= (2, 5):
            say(None, name, "OpenBLAS 0.3.34 of NumPy 2.5 crashes when Haswell is forced; install 2.4 for this leg")
            continue
        knobs = {
            "OPENBLAS_CORETYPE": kernel,
            "OPENBLAS_NUM_THREADS": threads,
            "NPY_DISABLE_CPU_FEATURES": " ".join(off),
        }
        results.append(leg(name, python, targets, **knobs))
    return results


def find_python(version):
    """The path of a Python that runs, or None: pythonX.Y on the PATH, then uv's, then pyenv's."""
    candidates = [shutil.which(f"python{version}")]
    if shutil.which("uv"):
        found = subprocess.run(
            ["uv", "python", "find", "--no-python-downloads", version], capture_output=True, text=True
        )
        candidates.append(found.stdout.strip())
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True).stdout.split()
        for name in listed:
            if name.startswith(version + "."):
                prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True).stdout.strip()
                candidates.append(str(Path(prefix) / "bin" / "python"))
    for candidate in filter(None, candidates):
        works = subprocess.run([candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"],
                               capture_output=True, text=True)  # fmt: skip
        if works.stdout.strip() == version:
            return candidate
    return None


def pythons(folder, targets):
    """The legs on other Pythons, each with a NumPy of its own in a new environment."""
    results = []
    for version, numpy in PYTHONS:
        name = f"Python {version} with {numpy}"
        python = find_python(version)
        if python is None:
            say(None, name, f"no python{version} found on the PATH, by uv or by pyenv")
            continue
        place = Path(folder) / version
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        inside = str(place / ("Scripts" if os.name == "nt" else "bin") / "python")
        install = [inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", numpy, *PACKAGES]
        installed = subprocess.run(install, capture_output=True, text=True)
        if installed.returncode:
            say(False, name, "pip: " + installed.stderr.strip().splitlines()[-1])
            results.append(False)
            continue
        results.append(leg(name, inside, targets))
    return results


def main(argv):
    results, kinds, targets = [], {"blas", "python"} & set(argv), lessons([a for a in argv if a.isdigit()])
    if not kinds or "blas" in kinds:
        results += processors(targets)
    if not kinds or "python" in kinds:
        with tempfile.TemporaryDirectory() as folder:
            results += pythons(folder, targets)
    print(f"{sum(results)} of {len(results)} legs are green")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
