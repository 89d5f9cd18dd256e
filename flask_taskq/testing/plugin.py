"""The fixtures that pytest finds by itself wherever this package is installed.

pytest imports this module in every project of its environment, whether that project has jobs
or not. So what the fixtures use is imported when one of them is.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Final
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .tester import JobTester
    from .threaded_worker import ThreadedWorker

_NO_APP: Final = (
    "taskq_jobs needs a fixture named 'app' that returns the Flask app under test, with"
    ' TASKQ_BROKER_URL = "memory://" in its configuration'
)


@pytest.fixture
def taskq_jobs(request: pytest.FixtureRequest) -> Iterator[JobTester]:
    """The jobs of the app that the fixture ``app`` returns, for one test."""
    try:
        app = request.getfixturevalue("app")
    except pytest.FixtureLookupError as error:
        if error.argname != "app":
            raise
        pytest.fail(f"{_NO_APP}; there is none of that name", pytrace=False)
    if not isinstance(app, import_module("flask").Flask):
        pytest.fail(f"{_NO_APP}; this one returned {app!r}", pytrace=False)
    with import_module(".tester", __package__).JobTester(app) as jobs:
        yield jobs


@pytest.fixture
def taskq_worker(
    taskq_jobs: JobTester,
) -> Callable[..., AbstractContextManager[ThreadedWorker]]:
    """A worker in threads, for the length of a ``with taskq_worker():`` block."""
    return taskq_jobs.worker
