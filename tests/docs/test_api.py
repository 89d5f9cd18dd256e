"""The page of the API names everything that is public, in a line of its own."""

import inspect
import re
from pathlib import Path

import pytest

import flask_taskq
from flask_taskq import errors
from flask_taskq import signals
from flask_taskq import testing

PAGE = (Path(__file__).parents[2] / "docs" / "api.rst").read_text()

#: What begins the rows of its tables.
ROWS = re.findall(r"^(``.+?)  +\S", PAGE, re.MULTILINE)
NAMED = set(re.findall(r"\w+", " ".join(ROWS)))

#: Some of what TaskQ has is for other rooms of the package.
TASKQ = re.search(r"autoclass:: TaskQ\n +:members: (.+)", PAGE)


def members(kind):
    return [
        name
        for name, value in vars(kind).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property))
    ]


@pytest.mark.parametrize(
    "names",
    [
        flask_taskq.__all__,
        testing.__all__,
        TASKQ[1].split(", "),
        members(flask_taskq.Job),
        members(testing.JobTester),
        [name for name in vars(signals) if name.startswith(("job_", "worker_", "child_"))],
        [
            name
            for name in vars(errors)
            if inspect.isclass(vars(errors)[name])
            and vars(errors)[name].__module__ == errors.__name__
        ],
    ],
    ids=["package", "testing", "TaskQ", "Job", "JobTester", "signals", "errors"],
)
def test_what_is_public_has_a_line_that_says_what_it_is(names):
    """For who reads the file and not what is made of it."""
    assert names
    assert [name for name in names if name not in NAMED] == []
