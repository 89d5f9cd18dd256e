"""What the contracts of import-linter cannot see of the floors.

They count an import for typing like every other one, which is what the floors want; so
they cannot tell that the two arrows they are told to ignore are for typing only. And they
order the modules inside a package, of which its own ``__init__`` is none.
"""

import ast
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]


class RuntimeImports(ast.NodeVisitor):
    """Collects the modules that a module imports when it runs."""

    def __init__(self, tree):
        self.names = set()
        self.visit(tree)

    def visit_If(self, node):
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node):
        self.names.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node):
        self.names.add("." * node.level + (node.module or ""))


def test_the_hooks_import_broker_and_worker_for_typing_only():
    """At run time the base class of all middleware stands below the broker."""
    tree = ast.parse((ROOT / "flask_taskq" / "hooks.py").read_text())
    upward = {".broker", ".worker.worker", "flask_taskq.broker", "flask_taskq.worker.worker"}
    assert RuntimeImports(tree).names & upward == set()


def test_no_third_arrow_goes_up():
    """A contract that does not fit is to be met, not to be given an exception."""
    ignored = {arrow for contract in CONTRACTS for arrow in contract.get("ignore_imports", ())}
    assert ignored == {
        "flask_taskq.hooks -> flask_taskq.broker",
        "flask_taskq.hooks -> flask_taskq.worker.worker",
    }


def test_nothing_imports_the_init_of_a_package_that_it_is_in():
    """That is a circle, and a way up: errors -> flask_taskq -> extension."""
    graph = grimp.build_graph("flask_taskq", cache_dir=None)
    inward = [
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if module.startswith(imported + ".")
    ]
    assert inward == []
