"""What an installation gets: the files, the dependencies, the names of the extras."""

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from flit_core.sdist import SdistBuilder
from flit_core.wheel import make_wheel_in
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flask_taskq"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

#: Each one is code that runs in every app that uses this extension. A name joins this list
#: after an argument, not by accident.
DEPENDENCIES = {"blinker", "cronsim", "flask", "msgspec", "pika", "redis"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    info = make_wheel_in(ROOT / "pyproject.toml", folder)
    return set(zipfile.ZipFile(info.file).namelist())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Names of the files in the sdist, without its top folder."""
    folder = tmp_path_factory.mktemp("sdist")
    archive = SdistBuilder.from_ini_path(ROOT / "pyproject.toml").build(folder)
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


def package_files():
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def requirements():
    return [
        pytest.param(Requirement(text), id=text)
        for text in [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]
    ]


def test_the_dependencies_are_the_ones_that_were_argued_for():
    """A new dependency fails here until it is in the list above."""
    assert {Requirement(text).name for text in PROJECT["dependencies"]} == DEPENDENCIES


@pytest.mark.parametrize("requirement", requirements())
def test_a_dependency_has_a_lower_bound_and_no_other(requirement):
    """An upper bound would keep an app from a security release."""
    assert [bound.operator for bound in requirement.specifier] == [">="]


def test_the_extras_have_the_names_that_the_documentation_gives_them():
    """Their names are as public as those of functions."""
    names = "redis rabbitmq postgres prometheus opentelemetry watch cli crypto gunicorn all"
    assert set(EXTRAS) == set(names.split())


@pytest.mark.parametrize("extra", ["redis", "rabbitmq"])
def test_an_extra_for_a_core_driver_is_empty(extra):
    """The driver comes with the package; the extra is only another spelling."""
    assert EXTRAS[extra] == []


def test_the_extra_all_is_all_other_extras():
    """It is written out, so it could lag behind."""
    others = {text for name, texts in EXTRAS.items() if name != "all" for text in texts}
    assert set(EXTRAS["all"]) == others


def test_the_wheel_has_every_file_of_the_package(wheel):
    """Templates, static files and SQL are not Python, and easily forgotten."""
    assert package_files() - wheel == set()


def test_the_wheel_marks_the_package_as_typed(wheel):
    """Without this file type checkers ignore all annotations."""
    assert "flask_taskq/py.typed" in wheel


def test_the_wheel_installs_nothing_beside_the_package(wheel):
    """A top-level folder named tests would collide with that of others."""
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"flask_taskq"}


def test_flask_and_pytest_get_one_name_each_and_it_is_the_extensions():
    """A more general one would hide a command of an app, or another plugin."""
    assert PROJECT["entry-points"] == {
        "flask.commands": {"taskq": "flask_taskq.cli:taskq"},
        "pytest11": {"taskq": "flask_taskq.testing.plugin"},
    }


@pytest.mark.parametrize(
    "name",
    [
        "CHANGELOG.rst",
        "CONTRIBUTING.rst",
        "LICENSE",
        "README.rst",
        "SECURITY.md",
        "docs/conf.py",
        "docs/index.rst",
        "pyproject.toml",
        "tests/gate.py",
    ],
)
def test_the_sdist_has_what_it_takes_to_test_and_document(name, sdist):
    """Distributions build, test and document from it, without the repository."""
    assert name in sdist


def test_the_sdist_has_nothing_that_was_built(sdist):
    """What a tool left behind depends on who built the sdist."""
    built = re.compile(r"__pycache__|docs/_build|\.pyc$|\.sqlite3|_cache/")
    assert [name for name in sdist if built.search(name)] == []
