"""An engine on the bench, with the handles that a test of the contract turns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from flask_taskq.clock import Clock
from flask_taskq.engines.base import Consumer
from flask_taskq.engines.base import Engine
from flask_taskq.jobs.delivery import Cancelled
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.jobs.delivery import Expired
from flask_taskq.jobs.delivery import Failed
from flask_taskq.jobs.delivery import Released
from flask_taskq.jobs.delivery import Retried
from flask_taskq.jobs.delivery import Snoozed
from flask_taskq.jobs.delivery import Succeeded
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import Status

ERROR = JobError(type="ValueError", message="no", traceback="Traceback ...")


class Bench:
    """An engine, and short words for what a sender, a worker and a supervisor do to it.

    :param engine: the engine under test, connected.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._ids = itertools.count(1)
        self._consumers: dict[tuple[Any, ...], Consumer] = {}

    @property
    def clock(self) -> Clock:
        return self.engine.clock

    def envelope(self, **fields: Any) -> Envelope:
        """An envelope of a job that is sent now, unless the fields say something else."""
        defaults = {
            "id": f"{next(self._ids):032x}",
            "queue": "default",
            "actor": "add",
            "priority": 0,
            "message": b"{}",
        }
        return Envelope(**{**defaults, **fields})

    def send(self, **fields: Any) -> str:
        """Enqueue one job; its id."""
        envelope = self.envelope(**fields)
        self.engine.enqueue([envelope])
        return envelope.id

    def send_many(self, count: int, **fields: Any) -> list[str]:
        """Enqueue jobs in one step; their ids."""
        envelopes = [self.envelope(**fields) for _ in range(count)]
        self.engine.enqueue(envelopes)
        return [envelope.id for envelope in envelopes]

    def record(self, job_id: str) -> JobRecord:
        """The record of a job that must exist."""
        record = self.engine.jobs.get(job_id)
        assert record is not None, f"job {job_id} is unknown"
        return record

    def status(self, job_id: str) -> Status:
        return self.record(job_id).status

    def worker(
        self, name: str = "w1", queues: Sequence[str] = ("default",), lane: Lane = Lane.ORDINARY
    ) -> Consumer:
        """A consumer of a worker that has a fresh lease; one object for the same words."""
        self.engine.workers.register(name)
        key = (name, tuple(queues), lane)
        if key not in self._consumers:
            consumer = self.engine.consumer(queues, name, lane)
            self._consumers[key] = consumer
        return self._consumers[key]

    def claim(self, name: str = "w1", **options: Any) -> Delivery:
        """Have a worker fetch one job that must be there."""
        [delivery] = self.worker(name, **options).fetch(1, 0)
        return delivery

    def claim_all(self, name: str = "w1", **options: Any) -> list[str]:
        """Have a worker fetch whatever it may; the ids, in order."""
        consumer = self.worker(name, **options)
        return [delivery.id for delivery in consumer.fetch(1_000, 0)]

    def running(self, name: str = "w1", **fields: Any) -> Delivery:
        """A new job that runs at this worker, alone in the queue with its name."""
        job_id = self.send(**fields)
        delivery = self.claim(name, queues=[fields.get("queue", "default")])
        assert delivery.id == job_id
        return delivery

    def settle(self, *settlements: Any, then_fetch: int = 0, name: str = "w1") -> Any:
        """Settle through a worker's consumer, without giving it a new lease."""
        key = (name, ("default",), Lane.ORDINARY)
        if key not in self._consumers:
            self._consumers[key] = self.engine.consumer(["default"], name)
        return self._consumers[key].settle_if_held(settlements, then_fetch)

    def close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()
        self.engine.close()


def done(delivery: Delivery, result: bytes = b"1", **fields: Any) -> Succeeded:
    return Succeeded(delivery=delivery, result=result, **fields)


def failed(delivery: Delivery, **fields: Any) -> Failed:
    return Failed(delivery=delivery, error=ERROR, **fields)


def cancelled(delivery: Delivery, **fields: Any) -> Cancelled:
    return Cancelled(delivery=delivery, error=ERROR, **fields)


def expired(delivery: Delivery, **fields: Any) -> Expired:
    return Expired(delivery=delivery, error=ERROR, **fields)


def retry(delivery: Delivery, at: int, **fields: Any) -> Retried:
    return Retried(delivery=delivery, error=ERROR, at=at, **fields)


def released(delivery: Delivery, **fields: Any) -> Released:
    return Released(delivery=delivery, **fields)


def snoozed(delivery: Delivery, at: int, **fields: Any) -> Snoozed:
    return Snoozed(delivery=delivery, at=at, **fields)
