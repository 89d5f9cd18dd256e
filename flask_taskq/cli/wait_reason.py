"""Why a job waits, as far as that can be known from outside."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final

from ..actors.broker import Broker
from ..jobs.record import JobRecord
from ..jobs.record import Status
from .job_text import show_time

#: What the words of ``status_reason`` mean.
_REASONS: Final = {
    "bad_arguments": "its arguments do not fit the actor as that worker knows it",
    "snoozed": "it has asked to run again later",
    "unknown_actor": "that worker does not know its actor",
    "worker_lost": "the process that ran it has died",
}


def explain_wait(broker: Broker, record: JobRecord) -> str:
    """Lines that say what a job waits for; empty if it does not wait.

    That is what its record says, whether its queue is paused, and whether any worker that is
    alive serves it; and whether this app's workers do by default.
    """
    if record.status not in (Status.QUEUED, Status.SCHEDULED):
        return ""
    return "\n".join(_explain(broker, record, broker.engine.now()))


def _explain(broker: Broker, record: JobRecord, now: int) -> Iterator[str]:
    reason = record.status_reason
    if reason is not None:
        when = ""
        if record.status is Status.SCHEDULED:
            when = f" at {show_time(record.updated_at)}"
        text = _REASONS.get(reason, reason)
        yield f"was released by a worker{when}: {text} ({reason})"
    if record.scheduled_for is not None and record.scheduled_for > now:
        yield f"is not to run before {show_time(record.scheduled_for)}"
    elif reason is None:
        yield f"for a worker that serves the queue {record.queue!r}"
    if record.queue in broker.engine.queues.paused():
        yield f"the queue {record.queue!r} is paused: flask taskq resume {record.queue}"
    infos = broker.engine.workers.all().values()
    if not infos:
        yield "no worker is alive"
    elif all(info.queues and record.queue not in info.queues for info in infos):
        yield f"none of the {len(infos)} workers that are alive serves the queue"
    if record.queue not in (queues := broker.get_declared_queues()):
        near = difflib.get_close_matches(record.queue, queues, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        yield (
            f"no actor of the app has the queue {record.queue!r}, so that no worker serves it"
            f" unless its --queues names it{hint}"
        )
    if record.actor not in broker.actors:
        yield f"the app has no actor {record.actor!r}"
