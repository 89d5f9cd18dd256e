"""``unique``: of jobs that are alike there is one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_taskq.actors.broker import Broker
from flask_taskq.actors.hooks import Middleware
from flask_taskq.clock import Clock
from flask_taskq.jobs.record import Status
from flask_taskq.middleware import Unique
from flask_taskq.testing.clock import ManualClock
from tests.support.apps import declare
from tests.support.apps import Line

pytestmark = pytest.mark.every_engine

pytestmark = pytest.mark.needs("Unique")


@pytest.fixture
def line(clock: ManualClock, new_broker: Callable[..., Broker]) -> Line:
    return Line(new_broker(clock))


def work_on(a: int, b: int = 0, *more: int, **named: int) -> None:
    pass


def actor(line: Line, **options: Any) -> Any:
    return declare(line.broker, work_on, actor_name="work", check_types=False, **options)


def test_a_job_like_one_that_waits_is_not_sent(line: Line) -> None:
    """Its sender gets the handle of the one that does."""
    work = actor(line, unique=True)
    first, second, other = work.send(1), work.send(1), work.send(2)

    assert second.id == first.id != other.id
    assert line.engine.queues.depths() == {"default": 2}


def test_an_argument_is_the_same_by_position_and_by_name(line: Line) -> None:
    """More of either kind count, too; the order of names does not."""
    work = actor(line, unique=True)

    assert work.send(1, 2).id == work.send(b=2, a=1).id
    assert work.send(1, 2, 3).id != work.send(1, 2).id
    assert work.send(1, c=3, d=4).id == work.send(1, d=4, c=3).id


def test_only_the_named_arguments_count(line: Line) -> None:
    """Of those that have names, whether or not they are given."""
    work = actor(line, unique=["a"])

    assert work.send(1, 2).id == work.send(1, 3).id == work.send(a=1).id
    assert work.send(2, 2).id != work.send(1, 2).id


def test_a_text_takes_the_place_of_arguments(line: Line) -> None:
    """It is given with a message, or to an actor; another actor has keys of its own."""
    work = actor(line)
    other = declare(line.broker, lambda n: None, actor_name="other", unique="x")
    first = work.send_with_options(args=(1,), unique="x")

    assert work.send_with_options(args=(2,), unique="x").id == first.id
    assert work.send_with_options(args=(1,), unique="y").id != first.id
    assert other.send(1).id == other.send(2).id != first.id


def test_a_message_can_do_without(line: Line) -> None:
    """With False; None is as if nothing had been said."""
    work = actor(line, unique=True)
    first = work.send(1)

    assert work.send_with_options(args=(1,), unique=False).id != first.id
    assert work.send_with_options(args=(1,), unique=None).id == first.id


def test_the_handle_tells_what_has_become_of_the_other_job(line: Line) -> None:
    """Running, for instance; and when that has ended, a new one is stored."""
    work = actor(line, unique=True)
    first = work.send(1)
    line.engine.workers.register("w2")
    [delivery] = line.engine.consumer(["default"], "w2").fetch(1, 0)
    second = work.send(1)

    assert (second.id, second.status) == (first.id, Status.RUNNING)
    line.engine.workers.hand_back("w2", [], "stopped")
    assert line.run(first).status is Status.SUCCEEDED
    assert work.send(1).id != delivery.id


def test_hooks_hear_of_jobs_that_are_stored(line: Line) -> None:
    """And not of one that was not."""
    heard = []

    class Listening(Unique):
        actor_options = set()  # type: ignore[assignment]

        def after_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
            heard.append(message.message_id)

    line.broker.add_middleware(Listening())
    work = actor(line, unique=True)
    first, _, other = work.send(1), work.send(1), work.send(2)

    assert heard == [first.id, other.id]


@pytest.mark.parametrize("unique", [0, 1, "", [], [1], {"a": 1}])
def test_what_cannot_make_a_key_is_refused(line: Line, unique: Any) -> None:
    """Where the actor is declared, and where it is sent."""
    with pytest.raises(ValueError, match="unique is"):
        actor(line, unique=unique)
    work = actor(line)
    with pytest.raises(ValueError, match="unique is"):
        work.send_with_options(args=(1,), unique=unique)


def test_a_name_that_is_no_parameter_is_refused(line: Line) -> None:
    """It would make all jobs alike."""
    for options in ({"unique": ["c"]}, {}):
        with pytest.raises(ValueError, match="names 'c'"):
            work = declare(line.broker, lambda a: None, actor_name="one", **options)
            work.send_with_options(args=(1,), unique=("c",))


def test_a_job_that_was_sent_again_says_what_it_is(line: Line) -> None:
    """The same message, of a job that has ended."""
    work = actor(line)
    message = work.message(1)
    job = line.broker.enqueue(message)
    line.run(job)

    again = line.broker.enqueue(message)

    assert (again.id, again.status) == (job.id, Status.SUCCEEDED)


def test_a_callback_that_gives_way_is_announced_to_nobody(
    new_broker: Callable[..., Broker],
    start_worker: Callable[..., Any],
    final: Callable[[Any], Any],
) -> None:
    """The job that is there was told of when it was stored."""
    heard = []

    class Listening(Middleware):
        def after_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
            heard.append(message.actor_name)

    line = Line(new_broker(Clock(), Listening()))
    told = declare(
        line.broker, lambda *args: None, actor_name="told", unique="x", queue_name="nobodys"
    )
    work = actor(line, on_success=told, queue_name="ours")
    jobs = [work.send(n) for n in range(3)]
    worker = start_worker(line.broker, queues=["ours"])
    assert {final(job).status for job in jobs} == {Status.SUCCEEDED}
    worker.stop(0)

    assert heard == ["work"] * 3 + ["told"]
    assert line.engine.queues.depths() == {"nobodys": 1}
