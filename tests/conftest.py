"""What all tests share."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Generator
from collections.abc import Iterator

import hypothesis
import pytest

from flask_taskq import middleware
from flask_taskq.testing.clock import ManualClock

#: How long a worker's thread may take to end after its test, in seconds.
RUNNER_END = 20

# The gate tries the same examples each time, so that it is red for a change and not by
# chance. "HYPOTHESIS_PROFILE=search" looks for new ones, for as long as one likes to wait.
hypothesis.settings.register_profile(
    "gate",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "search",
    parent=hypothesis.settings.get_profile("gate"),
    max_examples=2_000,
    derandomize=False,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

# A shell ignores SIGINT for what it starts in the background, and nohup SIGHUP. Processes
# inherit that, and a worker respects it: to tests it would be deaf.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture(autouse=True)
def no_runner_left() -> Iterator[None]:
    """A job that spins on in a thread would slow down all tests that come later."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("taskq-runner"):
            thread.join(RUNNER_END)
            assert not thread.is_alive(), f"{thread.name} runs on after its test"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half a surrogate pair in what a test has logged cannot go from one process to another."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode())
        for name, text in report.sections
    ]
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without",
        metavar="NAME",
        help="take a default middleware out, and leave out the tests that need it",
    )


def pytest_configure(config: pytest.Config) -> None:
    dropped = config.getoption("--without")
    if dropped is not None:
        left = tuple(one for one in middleware.DEFAULT if one.__name__ != dropped)
        if left == middleware.DEFAULT:
            raise pytest.UsageError(f"--without {dropped}: no default middleware has this name")
        middleware.DEFAULT = left  # type: ignore[misc]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    dropped = config.getoption("--without")
    needing = [
        item
        for item in items
        if any(dropped in mark.args for mark in item.iter_markers("needs"))
    ]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """What is raised while garbage is collected goes nowhere: in finalizers of what other tests
    have left, and in a callback that Hypothesis leaves behind in this process."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
