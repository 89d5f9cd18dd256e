"""Cancelling at random moments, while a worker runs the jobs."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any
from typing import Final

import pytest

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq.actors.broker import Broker
from flask_taskq.actors.run import Run
from flask_taskq.clock import Clock
from flask_taskq.jobs.record import JobRecord
from flask_taskq.middleware import DEFAULT
from flask_taskq.worker.threads.worker import Worker
from tests.support.apps import declare

JOBS: Final = 250
LONG: Final = 20_000


class Race:
    """Jobs of all kinds, and somebody who cancels some of them, in this thread.

    Whatever happens to a job is a moment at which it may be cancelled: it was sent, it has
    begun, it is about to end. What the worker does meanwhile is up to the machine, and so
    some jobs are cancelled before there is a worker, and some cancel themselves.
    """

    def __init__(self, engine: Any, seed: int) -> None:
        self.random = random.Random(seed)
        self.moments: SimpleQueue[str] = SimpleQueue()
        self.starts: dict[str, list[float]] = defaultdict(list)
        #: What cancel() has returned, and when.
        self.answers: dict[str, tuple[JobRecord, float]] = {}
        self.broker = Broker(engine, engine.settings, engine.clock, [one() for one in DEFAULT])
        self.broker.add_middleware(Starts(self))
        options = {"max_retries": 3, "min_backoff": 1, "max_backoff": 20}
        self.actors = [
            declare(self.broker, fn, **options)
            for fn in (self.quick, self.fails, self.asks, self.waits, self.resigns)
        ]
        self.ids: list[str] = []
        #: Nobody else cancels these.
        self.resigning: set[str] = set()

    def quick(self) -> None:
        self.moments.put(current_job.id)

    def fails(self) -> None:
        self.moments.put(current_job.id)
        raise LookupError

    def asks(self) -> None:
        until = time.monotonic() + 0.03
        while time.monotonic() < until:
            current_job.check_cancelled()
        self.moments.put(current_job.id)

    async def waits(self) -> None:
        await asyncio.sleep(0.01)
        self.moments.put(current_job.id)

    def resigns(self) -> None:
        self.cancel(current_job.id)

    def send(self) -> None:
        """Send all jobs."""
        messages = [
            self.random.choice(self.actors).message_with_options(
                delay=self.random.choice([None, None, 1, 50])
            )
            for _ in range(JOBS)
        ]
        self.resigning = {one.message_id for one in messages if one.actor_name == "resigns"}
        self.ids = [job.id for job in self.broker.enqueue_many(messages)]

    def run(self) -> list[JobRecord]:
        """Cancel until all have ended; their records then."""
        open_ones = set(self.ids)
        while open_ones:
            self.consider_all()
            job_id = next(iter(open_ones))
            if self.broker.wait_for_record(job_id, 5).status.is_final:
                open_ones.remove(job_id)
        return [self.broker.get_record(job_id) for job_id in self.ids]

    def name_some(self) -> None:
        """Let some jobs be considered, whatever happens to them."""
        for job_id in self.random.sample(self.ids, JOBS // 5):
            self.moments.put(job_id)

    def consider_all(self) -> None:
        """Cancel some of those to which something has happened."""
        while not self.moments.empty():
            job_id = self.moments.get()
            is_open = job_id not in self.answers and job_id not in self.resigning
            if is_open and self.random.random() < 0.4:
                self.cancel(job_id)

    def cancel(self, job_id: str) -> None:
        record = self.broker.cancel(job_id)
        self.answers[job_id] = (record, time.monotonic())


class Starts(Middleware):
    def __init__(self, race: Race) -> None:
        self.race = race

    def before_process_message(self, broker: Broker, message: Run) -> None:
        self.race.starts[message.id].append(time.monotonic())
        self.race.moments.put(message.id)


@contextmanager
def working(broker: Broker) -> Iterator[None]:
    worker = Worker(broker, worker_threads=3)
    over = threading.Event()

    def look_after() -> None:
        while not over.wait(0.01):
            worker.tick()

    thread = threading.Thread(target=look_after)
    worker.start()
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        worker.stop(LONG)


@pytest.mark.parametrize("seed", range(3))
def test_a_job_that_is_cancelled_has_one_outcome(new_engine: Any, seed: int) -> None:
    """What cancel() has answered stays true."""
    race = Race(new_engine(Clock()), seed)
    race.send()
    race.name_some()
    race.consider_all()
    with working(race.broker):
        race.name_some()
        records = race.run()
    answered: Counter[str] = Counter()
    for record in records:
        starts = race.starts[record.id]
        if record.id not in race.answers:
            assert record.status is not Status.CANCELLED
            continue
        answer, at = race.answers[record.id]
        answered[answer.status] += 1
        if answer.status.is_final:
            assert record == answer, "it has ended a second time"
            assert not [start for start in starts if start > at], "it has run since"
        else:
            # A worker had it. The run that it was asked in is the last one, however it ends.
            assert answer.status is Status.RUNNING and answer.cancel_requested
            assert record.status in (Status.SUCCEEDED, Status.CANCELLED, Status.FAILED)
            assert len(starts) <= answer.attempt
            if record.actor == "fails":
                assert record.status is not Status.SUCCEEDED
        assert race.broker.cancel(record.id) == record
    assert {Status.CANCELLED, Status.RUNNING} <= set(answered), "nothing was tried"
    race.broker.engine.close()
