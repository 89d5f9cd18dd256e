"""Nothing in the package can turn bytes from a queue into objects, but for JSON."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flask_taskq"

#: Modules that construct objects of any class from bytes, or run code from them.
UNSAFE = {
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "jsonpickle",
    "marshal",
    "pickle",
    "ruamel",
    "shelve",
    "yaml",
}


def sources():
    return [
        pytest.param(path, id=path.relative_to(ROOT).as_posix())
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def named_modules(tree):
    """Modules that a source names, by an import or as text for one, and what it calls."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield name
            case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                yield name  # __import__("pickle"), import_module("pickle")


def unsafe(source):
    roots = {name.partition(".")[0] for name in named_modules(ast.parse(source))}
    return roots & (UNSAFE | {"eval", "exec"})


@pytest.mark.parametrize("path", sources())
def test_the_source_has_no_way_to_unpickle(path):
    """There is no list of accepted formats that somebody could widen."""
    assert unsafe(path.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import yaml",
        "import_module('dill')",
        "__import__('marshal')",
        "eval('1')",
        "from ruamel.yaml import YAML",
    ],
)
def test_a_way_to_unpickle_would_be_found(source):
    """The search above can fail."""
    assert unsafe(source)
