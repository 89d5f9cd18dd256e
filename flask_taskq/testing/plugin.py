"""The fixtures that pytest finds by itself wherever this package is installed."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

import pytest
from flask import Flask

from .tester import JobTester
from .threaded import ThreadedWorker

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
    if not isinstance(app, Flask):
        pytest.fail(f"{_NO_APP}; this one returned {app!r}", pytrace=False)
    with JobTester(app) as jobs:
        yield jobs


@pytest.fixture
def taskq_worker(
    taskq_jobs: JobTester,
) -> Callable[..., AbstractContextManager[ThreadedWorker]]:
    """A worker in threads, for the length of a ``with taskq_worker():`` block."""
    return taskq_jobs.worker
