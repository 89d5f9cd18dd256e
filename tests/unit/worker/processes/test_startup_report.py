"""What is said of what a worker finds."""

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.worker.processes.channel import Configured
from flask_taskq.worker.processes.startup_report import describe_processes
from flask_taskq.worker.processes.startup_report import describe_start
from flask_taskq.worker.processes.startup_report import find_warnings

SETTINGS = Settings(broker_url="redis://shop:secret@host:6379/0")


def found(queues, **actors):
    return Configured(SETTINGS, queues, actors)


def test_a_start_is_described_on_one_line():
    """Without the password of the engine."""
    engine = make_engine(SETTINGS, Clock())
    message = found(["default", "mail"], add="default", send="mail")
    line = describe_start(message, ["mail"], engine, describe_processes(1, 8, "--processes"))
    assert line == (
        "2 actors; queue mail; Redis, redis://shop:***@host:6379/0;"
        " 1 process of 8 threads (--processes)"
    )


def test_what_is_one_and_what_are_many_are_named_so():
    """Also where there is nothing."""
    engine = make_engine(SETTINGS, Clock())
    line = describe_start(found([]), [], engine, describe_processes(2, 1, "why"))
    assert line.startswith("0 actors; queues none; ")
    assert line.endswith("; 2 processes of 1 thread (why)")


@pytest.mark.parametrize(
    ("queues", "hint"),
    [
        (["defaults"], "the queue 'defaults' of --queues; did you mean 'default'?"),
        (["mail", "reports"], "the queue 'reports' of --queues; the app has queues default, "),
    ],
)
def test_a_queue_that_no_actor_has_is_warned_of(queues, hint):
    """With the nearest name, or else with all."""
    [warning] = find_warnings(queues, found(["default", "mail"], add="default"))
    assert hint in warning


@pytest.mark.parametrize("queues", [None, ["mail"], ["mail", "default"]])
def test_queues_that_the_app_has_are_not_warned_of(queues):
    """Some of them are enough, in any order."""
    assert find_warnings(queues, found(["default", "mail"], add="default")) == []


def test_an_app_without_actors_is_warned_of():
    """The usual cause is named."""
    [warning] = find_warnings(None, found([]))
    assert "TASKQ_ACTORS names the modules" in warning
