"""The page on testing shows tests that pass."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest_plugins = ["pytester"]


def read(page, pattern):
    """The code blocks of a page, by the names of their files."""
    found = re.findall(pattern, (ROOT / page).read_text())
    return {name: textwrap.dedent(body) for name, body in found}


@pytest.mark.needs("AgeLimit", "Retries")
def test_the_tests_of_the_page_pass(pytester):
    """Each file as it stands there, with the app of the README."""
    files = {
        **read("README.rst", r"\n +# (tasks|app)\.py\n((?: +.*\n|\n)+)"),
        **read("docs/testing.rst", r":caption: ``(\w+)\.py``\n((?: +.*\n|\n)+)"),
    }
    pytester.makepyfile(**files)
    pytester.syspathinsert()
    result = pytester.runpytest("-W", "error", "-p", "no:randomly")
    result.assert_outcomes(passed=sum(body.count("def test_") for body in files.values()))
    assert len([name for name in files if name.startswith("test_")]) == 9
