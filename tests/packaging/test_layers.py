"""What the contracts of import-linter do not check of the layers."""

import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]


def test_no_contract_has_an_exception():
    """An import that does not fit is moved; no contract is told to ignore it."""
    assert [one["id"] for one in CONTRACTS if one.get("ignore_imports")] == []


def test_the_root_of_the_package_has_at_most_eight_modules():
    """What belongs together is in a package of its own."""
    modules = list((ROOT / "flask_taskq").glob("*.py"))
    assert len(modules) <= 8, sorted(path.name for path in modules)


def test_no_module_imports_the_init_of_its_own_package():
    """That is a circle, which contracts between the modules of a package do not see."""
    graph = grimp.build_graph("flask_taskq", cache_dir=None)
    inward = [
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if module.startswith(imported + ".")
    ]
    assert inward == []
