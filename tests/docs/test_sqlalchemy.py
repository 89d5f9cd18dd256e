"""The page on SQLAlchemy shows tests that pass."""

import re
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "sqlalchemy.rst"

pytest_plugins = ["pytester"]


@pytest.mark.needs("Retries")
def test_the_code_of_the_page_works(pytester):
    """Each file as it stands there."""
    found = re.findall(r":caption: ``(\w+)\.py``\n((?: +.*\n|\n)+)", PAGE.read_text())
    files = {name: textwrap.dedent(body) for name, body in found}
    assert sorted(files) == ["shop", "test_shop"]
    pytester.makepyfile(**files)
    pytester.syspathinsert()
    result = pytester.runpytest("-W", "error", "-p", "no:randomly")
    result.assert_outcomes(passed=files["test_shop"].count("def test_"))
