"""What the files of the repository must not contain."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = {"", ".cfg", ".html", ".md", ".py", ".rst", ".toml", ".txt", ".yaml", ".yml"}

#: "install", options, and then the bare name: no path before it, nothing that points to a
#: place after it.
ADVICE = re.compile(
    r"""\b(?:install|add|download)\s+(?:-\S+\s+)*["'`]*flask[-_.]taskq\b(?!.*\s@\s)(?![\w/])""",
    re.IGNORECASE,
)


def texts():
    """Every file with text, but for what tools have made."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts[:-1])
        made = {"_build", "__pycache__", "build", "dist", "instance"} & set(parts)
        if path.is_file() and path.suffix in SUFFIXES and not hidden and not made:
            yield path


def test_no_text_installs_the_package_by_its_name():
    """On the public index that name belongs to another, abandoned project."""
    assert [path for path in texts() if ADVICE.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    "advice",
    [
        "pip install {}",
        "$ python -m pip install --upgrade {}",
        'pip install "{}[postgres]"',
        "uv add {}",
        "pip install '{}>=0.1'",
    ],
)
@pytest.mark.parametrize("name", ["flask-taskq", "flask_taskq", "Flask-TaskQ"])
def test_installing_it_by_its_name_would_be_found(advice, name):
    """The search above can fail."""
    assert ADVICE.search(advice.format(name))


@pytest.mark.parametrize(
    "advice",
    ["pip install .", "pip install -e .", "pip install ./flask_taskq", "pip install /src"],
)
def test_installing_a_checkout_is_no_such_advice(advice):
    """The search above does not fail for the right thing."""
    assert not ADVICE.search(advice)
