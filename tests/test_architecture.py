"""The house rules: who imports whom, and what a backward may do."""

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from specimens import CASES, LAYERS, as_tuple, gradients, loss_of, reachable, specimen, tiny_peft

import minipeft

ROOT = Path(minipeft.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
every_file = pytest.mark.parametrize("file", FILES, ids=str)

ROOTS = {"validation", "files", "parts", "process"}  # these import nothing of ours, but for one
MAY_IMPORT = {
    **{root: set() for root in ROOTS},
    "files": {"parts"},
    "model": ROOTS,
    "methods": ROOTS | {"model"},
    "generation": ROOTS | {"model", "methods"},
    "training": ROOTS | {"model", "methods"},
    "interop": ROOTS | {"model", "methods"},
    "lab": ROOTS | {"model", "methods", "generation", "training"},
    "course": ROOTS | {"model", "methods", "generation", "training", "interop", "lab"},
}


def tree_of(file):
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def imported(file, nodes=None):
    """Every module that a file imports, in full: "minipeft.model.layers", "numpy"."""
    package = ("minipeft", *file.parent.parts)
    for node in nodes or ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            submodules = {path.with_suffix("").parts for path in FILES} | {path.parent.parts for path in FILES}
            for alias in node.names:
                inside = (*module.split(".")[1:], alias.name)
                yield f"{module}.{alias.name}" if inside in submodules else module


def at_the_top(file):
    """Import statements that run when the file is imported: everything outside functions."""
    todo = [tree_of(file)]
    while todo:
        node = todo.pop()
        yield node
        todo += [child for child in ast.iter_child_nodes(node) if not isinstance(child, (ast.FunctionDef, ast.Lambda))]


def part(file):
    return file.parts[0].removesuffix(".py")


def test_the_import_reader_reads(tmp_path):
    """The tests below would pass over an empty list."""
    assert "minipeft.model.layers" in imported(Path("methods/lora.py"))
    assert "minipeft.methods.prefix" in imported(Path("methods/prompt.py"))
    assert "minipeft.methods" in imported(Path("training/bases.py"))
    assert "numpy" in imported(Path("files.py"))


@every_file
def test_imports_go_one_way(file):
    if file.name == "__init__.py" and len(file.parts) == 1:
        allowed = {"generation", "lab", "methods", "model", "training"}
    elif part(file) in ("commands", "__main__"):
        allowed = set(MAY_IMPORT) | {"commands", "minipeft"}
    else:
        allowed = MAY_IMPORT[part(file)] | {part(file)}
    ours = [name.split(".") for name in imported(file) if name.split(".")[0] == "minipeft"]
    assert {name[1] if name[1:] else "minipeft" for name in ours} <= allowed


def methods_imported_by(file):
    others = {name.split(".")[-1] for name in imported(file) if name.startswith("minipeft.methods.")}
    return others - {"method", "records", "wrapper"}


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "methods"], ids=str)
def test_a_method_imports_at_most_two_others_and_never_in_a_circle(file):
    """dora stands on lora.  saving.py looks METHODS up when a file is loaded; __init__.py is the list."""
    if file.stem == "__init__":
        return
    assert len(methods_imported_by(file)) <= 2
    assert "minipeft.methods" not in imported(file, list(at_the_top(file)))
    below, todo = set(), list(methods_imported_by(file))
    while todo:
        below.add(other := todo.pop())
        todo += methods_imported_by(Path(f"methods/{other}.py")) - below
    assert file.stem not in below


@every_file
def test_the_model_and_the_methods_need_only_numpy(file):
    others = {name.split(".")[0] for name in imported(file)} - sys.stdlib_module_names - {"minipeft"}
    if part(file) in ROOTS | {"model", "methods"}:
        assert others <= ({"threadpoolctl"} if part(file) == "process" else {"numpy"})


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "methods"], ids=str)
def test_the_products_of_a_method_are_counted(file):
    used = {node.attr for node in ast.walk(tree_of(file)) if isinstance(node, ast.Attribute)}
    assert not used & {"einsum", "tensordot", "inner", "vdot"}, "counting() sees @, np.matmul, np.dot, matmul and outer"


@every_file
def test_matplotlib_is_imported_late(file):
    top = {name.split(".")[0] for name in imported(file, list(at_the_top(file)))}
    if part(file) not in ("lab", "commands", "course"):  # to import the course is to set up its figures
        assert "matplotlib" not in top


def test_all_public_names_need_only_numpy():
    code = """
import sys
before = set(sys.modules)
from minipeft import *
found = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(name for name in found if "cython" not in name))  # numpy.random brings Cython's own
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "['minipeft', 'numpy']"


def test_importing_minipeft_imports_nothing_else_until_a_name_is_asked_for():
    code = "import sys, minipeft; print('numpy' in sys.modules, minipeft.LoRA(r=2).r, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.split() == ["False", "2", "True"]


def test_the_public_names_are_there_and_are_those_of_the_parts():
    assert set(minipeft.__all__) <= set(dir(minipeft))
    for name in minipeft.__all__:
        assert getattr(minipeft, name) is not None
    assert minipeft.training.fit is minipeft.fit
    with pytest.raises(AttributeError, match="no attribute 'lora'"):
        _ = minipeft.lora


@every_file
def test_numpys_global_random_state_is_left_alone(file):
    drawn = {
        node.attr
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random")
    }
    torchs_stream = {"RandomState"} if file == Path("methods/vera.py") else set()  # Generator does not have it
    assert drawn <= {"default_rng", "Generator"} | torchs_stream


@every_file
def test_no_closure_rebinds_what_it_captured(file):
    if part(file) in ("model", "methods"):
        assert not [node for node in ast.walk(tree_of(file)) if isinstance(node, (ast.Nonlocal, ast.Global))]


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "model"], ids=str)
def test_the_model_knows_nothing_of_peft(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.findall(r"wrapper|prefix|prompt|adapter|lora|virtual|peft", text, re.IGNORECASE) == []


@pytest.mark.parametrize("name", minipeft.METHODS)
def test_a_method_has_its_name_and_stands_above(name):
    method = minipeft.METHODS[name]
    assert method.name == name
    assert issubclass(method, minipeft.Method)
    assert getattr(minipeft, method.__name__) is method
    assert method.__doc__


# What backward captured


def digest(backward):
    """Which objects a closure holds, and the numbers in all arrays that can be reached from it."""
    arrays = hashlib.sha256()
    for array, _ in reachable(backward):
        arrays.update(np.ascontiguousarray(array))
    return [id(cell.cell_contents) for cell in backward.__closure__ or ()], arrays.hexdigest()


@pytest.mark.parametrize("name", LAYERS)
def test_backward_changes_neither_what_it_captured_nor_dy(name):
    layer, inputs = specimen(name)
    y, backward = layer(*inputs)
    inputs_before, y_before = [a.copy() for a in inputs], y.copy()
    dy = np.random.default_rng(0).normal(size=y.shape)
    dy_before, before = dy.copy(), digest(backward)
    assert name == "Dropout off" or reachable(backward)
    backward(dy)
    assert digest(backward) == before
    assert np.array_equal(dy, dy_before)
    assert np.array_equal(y, y_before)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, inputs_before, strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_backward_twice_adds_the_same_gradient_twice(name):
    layer, inputs = specimen(name)
    y, backward = layer(*inputs)
    dy = np.random.default_rng(0).normal(size=y.shape)
    dx, once = as_tuple(backward(dy)), gradients(layer)
    dx = [a if a is None else a.copy() for a in dx]
    again, twice = as_tuple(backward(dy)), gradients(layer)
    assert all(np.array_equal(a, b) for a, b in zip(dx, again, strict=True))
    for path, grad in twice.items():
        assert np.allclose(grad, 2 * once[path], rtol=1e-12, atol=1e-15), path


@pytest.mark.parametrize("name", LAYERS)
def test_forward_does_not_change_its_inputs_or_parameters(name):
    layer, inputs = specimen(name)
    before = [a.copy() for a in inputs] + [p.data.copy() for _, p in layer.named_parameters()]
    layer(*inputs)
    after = [*inputs, *(p.data for _, p in layer.named_parameters())]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_same_holds_for_a_whole_model_with_a_method_in_it(case, batch):
    model = tiny_peft(case)
    _, backward = loss_of(model, batch)()
    before = digest(backward)
    backward()
    once = gradients(model)
    assert digest(backward) == before
    backward()
    assert digest(backward) == before
    for path, grad in gradients(model).items():
        assert np.allclose(grad, 2 * once[path], rtol=1e-12, atol=1e-15), path


@pytest.mark.parametrize("name", LAYERS)
def test_what_comes_out_of_one_backward_may_be_changed(name):
    """A layer above may work in place on dx; the next backward must not see it."""
    layer, inputs = specimen(name)
    y, backward = layer(*inputs)
    dy = np.random.default_rng(0).normal(size=y.shape)
    first = as_tuple(backward(dy.copy()))
    kept = [dx if dx is None else dx.copy() for dx in first]
    for dx in first:
        if dx is not None:
            dx *= 3
    again = as_tuple(backward(dy))
    assert all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True))
