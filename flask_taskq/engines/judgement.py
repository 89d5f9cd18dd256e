"""What happens to a job whose holder is gone: the same on every engine."""

from __future__ import annotations

from typing import Final
from typing import NamedTuple

from ..record import JobError
from ..record import Status

#: How often a job may be held by a worker that vanished with its whole host.
MAX_SUSPECTS: Final = 10

#: How long a job waits, in milliseconds, before it runs in a process of its own.
ISOLATION_DELAY: Final = 2_000


class Verdict(NamedTuple):
    """What happens to a job whose holder is gone. See :func:`judge`."""

    status: Status
    crashes: int
    suspects: int
    due_at: int | None
    error: JobError | None

    @property
    def isolated(self) -> bool:
        """Whether the next run gets a process to itself."""
        return self.status is Status.SCHEDULED


def judge(
    *,
    crashes: int,
    suspects: int,
    crashed: bool,
    vanished: bool,
    cause: str,
    max_crashes: int,
    now: int,
) -> Verdict:
    """Decide what happens to a running job whose holder is gone.

    A job that was running when its process died gets a crash: after the first it is
    queued again at once, after the second it waits and then has a process to itself, so
    that it cannot take its neighbours with it, and the last one fails it. Jobs that
    the process had merely fetched are queued again.

    :param crashed: the job had started in a process that died.
    :param vanished: nobody knows whether it had started.
    :param cause: how the holder ended, for the error's text.
    """
    crashes += crashed
    suspects += vanished
    if crashes >= max_crashes and crashed or suspects >= MAX_SUSPECTS and vanished:
        times = f"{crashes} times" if crashed else f"{suspects} times, perhaps because of it"
        error = JobError(
            type="WorkerLost",
            message=f"the worker process died while it held this job, {times}: {cause}",
            code="worker_lost",
        )
        return Verdict(Status.FAILED, crashes, suspects, None, error)
    if crashed and crashes >= 2:
        due_at = now + ISOLATION_DELAY
        return Verdict(Status.SCHEDULED, crashes, suspects, due_at, None)
    return Verdict(Status.QUEUED, crashes, suspects, None, None)
