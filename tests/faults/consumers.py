"""Between a worker and the consumer of its engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import cast

from flask_taskq.engines.base import Consumer
from flask_taskq.engines.base import Engine
from flask_taskq.engines.base import Reported
from flask_taskq.engines.base import Settled
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.delivery import Retried
from flask_taskq.jobs.delivery import Settlement
from flask_taskq.jobs.record import Lane

from .event_log import append
from .points import die_meanwhile
from .points import FOLDER
from .points import reach
from .points import take


class Around:
    """A consumer that passes everything on to another one."""

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def put_around(engine: Engine, wrap: Callable[[Consumer], Around]) -> None:
    """Let every consumer of an engine be inside of another one."""
    make = engine.consumer

    def consumer(queues: Sequence[str], worker: str, lane: Lane = Lane.ORDINARY) -> Consumer:
        return cast(Consumer, wrap(make(queues, worker, lane)))

    engine.consumer = consumer  # type: ignore[method-assign]


class Watched(Around):
    """Writes down what is claimed and what is settled, and dies in between."""

    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        deliveries = self._inner.fetch(limit, timeout)
        self._note_claims(deliveries)
        return deliveries

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        dying_in = take("mid-flush")
        if dying_in is None and any(isinstance(one, Retried) for one in settlements):
            dying_in = take("mid-retry")
        if dying_in is not None:
            die_meanwhile(dying_in)
        settled = self._inner.settle_if_held(settlements, then_fetch)
        if dying_in is not None:
            threading.Event().wait()
        for settlement, outcome in zip(settlements, settled.outcomes, strict=True):
            job = settlement.delivery.id
            event = "late" if outcome is None else "settled"
            append(FOLDER, event, job=job, outcome=type(settlement).__name__)
        reach("after-flush")
        self._note_claims(settled.deliveries)
        return settled

    def report_if_held(self, reports: Sequence[Report]) -> Reported:
        dying_in = take("mid-progress") if any(one.progress for one in reports) else None
        if dying_in is not None:
            die_meanwhile(dying_in)
        reported = self._inner.report_if_held(reports)
        if dying_in is not None:
            threading.Event().wait()
        return reported

    def _note_claims(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            append(FOLDER, "claimed", job=delivery.id)
        if deliveries:
            reach("after-claim")


def watch(engine: Engine) -> None:
    """Let every consumer of an engine be watched."""
    put_around(engine, Watched)
