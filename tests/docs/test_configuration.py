"""The page of configuration keys says what the code does."""

import ast
import re
from pathlib import Path

import msgspec

from flask_taskq.config import Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.rst"
ENTRY = re.compile(r"^\.\. data:: TASKQ_(\w+)$(.*?)^    Default: ``(.*?)``", re.M | re.S)


def documented():
    """The default of each key, as the page gives it."""
    entries = ENTRY.findall(PAGE.read_text())
    return {name.lower(): ast.literal_eval(default) for name, _, default in entries}


def actual():
    """The default of each key, as the code has it."""
    return {
        field.name: field.default
        if field.default is not msgspec.NODEFAULT
        else field.default_factory()
        for field in msgspec.structs.fields(Settings)
    }


def test_every_key_is_documented_with_its_default():
    """A key that is not on the page does not exist for a reader."""
    assert documented() == actual()
