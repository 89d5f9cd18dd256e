"""How many jobs a worker asks for."""

import pytest

from flask_taskq.jobs.delivery import Delivery
from flask_taskq.worker.threads.prefetch import Prefetch


@pytest.fixture
def prefetch(clock):
    """Of a worker with four threads, on a clock that the test moves."""
    return Prefetch(4, clock)


def delivery(n=0, claim=1):
    return Delivery(
        id=f"{n:032x}",
        queue="default",
        actor="add",
        priority=0,
        message=b"{}",
        worker="w",
        attempt=1,
        claim=claim,
        created_at=0,
    )


def test_it_asks_for_as_many_jobs_as_can_start(prefetch):
    """At first, and when jobs are slow."""
    assert prefetch.ask() == 4
    prefetch.take_in([delivery(n) for n in range(3)])
    assert prefetch.ask() == 1
    prefetch.take_in([delivery(n) for n in range(9)])
    assert prefetch.ask() == 0


def test_it_asks_for_as_many_jobs_as_were_finished_just_now(prefetch, clock):
    """And for fewer again when they have become slow."""
    prefetch.ask_along(50, 50)
    assert prefetch.ask() == 50
    clock.advance(30)
    assert prefetch.ask() == 4


def test_it_asks_for_a_bounded_number_of_jobs(prefetch):
    """However fast they are."""
    prefetch.ask_along(5_000, 5_000)
    assert prefetch.ask() == 256


def test_what_is_asked_for_already_is_not_asked_for_twice(prefetch):
    """Fetcher and settler share the demand."""
    assert prefetch.ask() == 4
    assert prefetch.ask_along(0, 0) == 0
    prefetch.answered()
    assert prefetch.ask_along(0, 0) == 4


def test_what_is_about_to_be_settled_counts_no_more(prefetch):
    """Its place is free for a job that the same call brings."""
    prefetch.take_in([delivery(n) for n in range(4)])
    assert prefetch.ask_along(3, 3) == 3


def test_what_is_given_back_is_not_asked_for_again(prefetch):
    """As if it had been finished: it was released because it had to wait."""
    prefetch.take_in([delivery(n) for n in range(48)])
    assert prefetch.ask_along(0, 40) == 0


def test_it_knows_what_has_waited_too_long(prefetch, clock):
    """Jobs that run do not wait."""
    running, waiting = delivery(1), delivery(2)
    prefetch.take_in([running])
    clock.advance(500)
    prefetch.take_in([waiting])
    clock.advance(1_000)
    assert not prefetch.has_waited(1_000, besides={running.id})
    clock.advance(1)
    assert prefetch.has_waited(1_000, besides={running.id})
    assert not prefetch.has_waited(1_000, besides={running.id, waiting.id})


def test_it_is_short_while_there_is_room_that_nobody_asked_for(prefetch):
    """Held jobs and asked ones fill it."""
    assert prefetch.is_short()
    prefetch.ask()
    assert not prefetch.is_short()
    prefetch.answered()
    prefetch.take_in([delivery(n) for n in range(4)])
    assert not prefetch.is_short()


def test_what_was_settled_is_not_held(prefetch):
    """And what was not, is."""
    first, second = delivery(1), delivery(2)
    prefetch.take_in([first, second])
    prefetch.let_go([first])
    assert len(prefetch) == 1
    assert prefetch.ask() == 3


def test_a_late_settlement_does_not_let_go_of_a_newer_claim(prefetch):
    """The same job may be here again after its lease was lost."""
    old, new = delivery(claim=1), delivery(claim=2)
    prefetch.take_in([old])
    prefetch.take_in([new])
    prefetch.let_go([old])
    assert len(prefetch) == 1


def test_what_runs_without_a_thread_leaves_room(prefetch):
    """A coroutine holds a job, and no thread."""
    prefetch.take_in([delivery(n) for n in range(4)])
    assert prefetch.ask() == 0
    prefetch.set_aside(3)
    assert prefetch.ask() == 3
    prefetch.answered()
    prefetch.set_aside(-1)
    assert prefetch.ask() == 2
