"""The watch over runs, whose runners are made up here."""

import threading

import pytest

from flask_taskq.actors.run import Run
from flask_taskq.clock import Clock
from flask_taskq.errors import JobCancelled
from flask_taskq.errors import Shutdown
from flask_taskq.errors import TimeLimitExceeded
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.worker.outcome import is_cancelled
from flask_taskq.worker.threads.interrupter import Interrupter
from tests.support.apps import declare
from tests.support.apps import make_broker

PATIENCE = 10


@pytest.fixture
def run(clock):
    actor = declare(make_broker(clock), lambda: None, actor_name="stay")
    message = actor.message()
    delivery = Delivery(
        id=message.message_id,
        queue="default",
        actor="stay",
        priority=0,
        message=b"",
        worker="w",
        attempt=1,
        claim=1,
        created_at=0,
    )
    return Run(message, delivery, actor)


class Swallowing:
    """A runner whose actor goes on whatever is raised in it.

    :param meanwhile: called while the first exception is raised.
    """

    def __init__(self, run, meanwhile):
        self.current = run
        self.raised = []
        self.twice = threading.Event()
        self._meanwhile = meanwhile

    def interrupt(self, run, exception):
        self.raised.append(exception)
        if len(self.raised) == 1:
            self._meanwhile()
        else:
            self.twice.set()
        return True


def test_what_a_run_is_told_while_it_is_interrupted_is_raised_as_well(run):
    """Its worker stops in the moment in which its time limit is over."""
    runner = Swallowing(run, lambda: watch.interrupt(run, Shutdown))
    watch = Interrupter([runner], Clock(), lambda *stuck: None)
    watch.interrupt(run, TimeLimitExceeded)
    watch.start()
    try:
        assert runner.twice.wait(PATIENCE)
    finally:
        watch.stop()
    assert runner.raised == [TimeLimitExceeded, Shutdown]


def test_a_run_is_told_each_reason_once(run, clock):
    """The reason is found repeatedly; the first patience counts."""
    watch = Interrupter([], clock, lambda *stuck: None)
    watch.interrupt(run, JobCancelled, patience=1_000)
    raise_at = run.raise_at
    clock.advance(500)
    watch.interrupt(run, JobCancelled, patience=1_000)
    assert run.raise_at == raise_at


def test_a_run_that_was_told_two_reasons_remembers_both(run, clock):
    """It was cancelled, though the latest is that its worker stops."""
    watch = Interrupter([], clock, lambda *stuck: None)
    watch.interrupt(run, JobCancelled)
    watch.interrupt(run, Shutdown)
    assert run.interrupted_by is Shutdown
    assert is_cancelled(run)
