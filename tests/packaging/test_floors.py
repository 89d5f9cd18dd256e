"""What import-linter cannot see of the floors.

It counts an import for typing like every other one, which is what the floors want. So it
cannot tell that the two arrows it is told to ignore are for typing only.
"""

import ast
import tomllib
from pathlib import Path

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
