"""The page on arguments shows code that does what it says."""

import re
import textwrap
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "arguments.rst"

pytest_plugins = ["pytester"]


def test_the_tests_of_the_page_pass(pytester):
    """Each file as it stands there."""
    blocks = re.findall(r":caption: ``(\w+)\.py``\n((?: +.*\n|\n)+)", PAGE.read_text())
    pytester.makepyfile(**{name: textwrap.dedent(body) for name, body in blocks})
    pytester.syspathinsert()
    pytester.runpytest("-W", "error", "-p", "no:randomly").assert_outcomes(passed=3)
