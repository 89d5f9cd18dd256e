"""What ``send()`` returns: a handle on a job."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection
from datetime import timedelta
from typing import Any
from typing import cast
from typing import Final
from typing import Generic
from typing import Protocol
from typing import Self
from typing import TypeVar

from ..config import milliseconds
from ..errors import ResultFailure
from ..errors import ResultMissing
from ..errors import ResultTimeout
from ..jobs.encoding import decode_message
from ..jobs.message import Message
from ..jobs.record import JobRecord
from ..jobs.record import Progress
from ..jobs.record import Status

R_co = TypeVar("R_co", covariant=True)

#: How often :meth:`Job.result` looks at the record, in seconds: at first, and in the end.
_FIRST_LOOK: Final = 0.002
_LAST_LOOK: Final = 0.05

#: How much less often it does for each coroutine that waits, in seconds, so that all of them
#: together never take more than a part of the process's time.
_LOOK_COST: Final = 0.001

#: How long it waits for the last look, in seconds: the threads may all be taken.
_LAST_WAIT: Final = 0.5


class JobSource(Protocol):
    """Where a handle looks its job up: a broker."""

    @property
    def awaiting(self) -> set[object]:
        """Has one for each coroutine that waits for a job."""

    def get_record(self, job_id: str) -> JobRecord:
        """The record. Raises :exc:`JobNotFound`."""

    def wait_for_record(
        self, job_id: str, timeout: int | None, at_once: int | None = None
    ) -> JobRecord:
        """The record once it is final or the milliseconds are over, or as many of them as
        this call may take."""

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel, or ask for it, and return the record afterwards."""

    def decode_result(self, actor_name: str, result: bytes) -> Any:
        """A stored result, as the actor's annotation says."""

    def describe(self, record: JobRecord) -> dict[str, Any]:
        """The record as clients see it."""


class _Awaiting:
    """Counts a coroutine among those that wait, as long as it does.

    In a set, which threads with loops of their own can share.
    """

    def __init__(self, awaiting: set[object]) -> None:
        self._awaiting = awaiting

    def __enter__(self) -> Collection[object]:
        self._awaiting.add(self)
        return self._awaiting

    def __exit__(self, *exc_info: object) -> None:
        self._awaiting.discard(self)


class Job(Generic[R_co]):
    """A handle on one job. It knows the job's last seen record and can look again.

    :param record: the record as it was last seen.
    :param source: where to look again.
    """

    def __init__(self, record: JobRecord, source: JobSource) -> None:
        self.record = record
        self._source = source

    @property
    def id(self) -> str:
        """32 lower-case hex digits. Over HTTP, every client that knows them may see the job."""
        return self.record.id

    @property
    def status(self) -> Status:
        """The status as it was last seen; no I/O. See :meth:`refresh`."""
        return self.record.status

    @property
    def done(self) -> bool:
        """Whether the job had ended, well or not, when it was last seen; no I/O. See
        :meth:`refresh`."""
        return self.record.status.is_final

    @property
    def progress(self) -> Progress | None:
        """How far the current or last run had come, as it was last seen; no I/O. None if it
        has not told. See :meth:`refresh`."""
        return self.record.progress

    @property
    def message(self) -> Message:
        """What was sent, read back from what was stored: the arguments are as JSON has them.

        :raises DecodeError: what is stored is damaged.
        """
        return decode_message(self.record.message)

    def refresh(self) -> Self:
        """Read the record again.

        :raises JobNotFound: the record's retention time is over.
        """
        self.record = self._source.get_record(self.id)
        return self

    def get_result(
        self, *, block: bool = False, timeout: int | timedelta | None = 10_000
    ) -> R_co:
        """What the actor returned, converted by its annotation if this process knows it.

        :param block: wait until the job has finished.
        :param timeout: how long to wait, in milliseconds; None waits for ever.
        :raises ResultMissing: it has not finished, and ``block`` is false.
        :raises ResultTimeout: it did not finish in time.
        :raises ResultFailure: it finished without a result.
        :raises BadResult: the result does not fit the annotation.
        :raises JobNotFound: the record's retention time is over.
        """
        wait = None if timeout is None else milliseconds(timeout)
        if not self.status.is_final:
            if block:
                self.record = self._source.wait_for_record(self.id, wait)
            else:
                self.refresh()
        if not self.status.is_final:
            text = f"job {self.id} of actor {self.record.actor!r} is {self.status}"
            if block:
                raise ResultTimeout(f"{text} after {wait} ms")
            raise ResultMissing(f"{text}: it has no result yet")
        return self._result()

    async def result(self, timeout: int | timedelta | None = None) -> R_co:
        """Wait, without blocking the event loop, for what the actor returned.

        :param timeout: how long to wait, in milliseconds; None waits for ever.
        :raises ResultTimeout, ResultFailure, BadResult, JobNotFound: as :meth:`get_result`.
        """
        limit = None if timeout is None else milliseconds(timeout)
        if not self.status.is_final:
            with _Awaiting(self._source.awaiting) as others:
                await self._await_end(limit, others)
        if not self.status.is_final:
            raise ResultTimeout(
                f"job {self.id} of actor {self.record.actor!r} is {self.status}"
                f" after {limit} ms"
            )
        return self._result()

    async def _await_end(self, limit: int | None, others: Collection[object]) -> None:
        """Look at the record until it is final or the milliseconds are over.

        :param others: one for each of all coroutines that do this.
        """
        until = math.inf if limit is None else time.monotonic() + limit / 1000
        interval = _FIRST_LOOK
        while True:
            # In a thread, which is busy for a moment only: those of an event loop are few, and
            # one that waited for a job would keep all others waiting.
            left = None if limit is None else max(0, round((until - time.monotonic()) * 1000))
            late = None if left is None else left / 1000 + _LAST_WAIT
            try:
                async with asyncio.timeout(late) as over:
                    self.record = await asyncio.to_thread(
                        self._source.wait_for_record, self.id, left, 0
                    )
            except TimeoutError:
                if not over.expired():
                    raise
                return
            pause = until - time.monotonic()
            if self.status.is_final or pause <= 0:
                return
            await asyncio.sleep(min(pause, max(interval, len(others) * _LOOK_COST)))
            interval = min(interval * 1.5, _LAST_LOOK)

    def cancel(self) -> Self:
        """Cancel the job if no worker holds it, and ask for it if one does.

        A job that was only asked to stop ends as it ends, but it does not run again.

        :return: the handle, refreshed: its ``status`` and ``record.cancel_requested``
            tell what was possible.
        :raises JobNotFound: the record's retention time is over.
        """
        self.record = self._source.cancel(self.id)
        return self

    def as_dict(self) -> dict[str, Any]:
        """The job as it was last seen, as clients see it; no I/O.

        The members are those of ``/jobs/<id>``, ready for JSON: what
        :data:`TASKQ_EXPOSE` keeps back is None, and so is a result over 64 KiB.

        :raises RuntimeError: the job is no app's.
        """
        return self._source.describe(self.record)

    def _result(self) -> R_co:
        record = self.record
        if record.status is Status.SUCCEEDED and record.result is not None:
            return cast(R_co, self._source.decode_result(record.actor, record.result))
        if record.error is not None and record.status is not Status.FAILED:
            raise ResultFailure(
                f"job {self.id} of actor {record.actor!r} is {record.status}:"
                f" {record.error.message or record.error.type}",
                record.error.type,
                record.error.message,
            )
        if record.error is not None:
            raise ResultFailure(
                f"job {self.id}: actor {record.actor!r} raised {record.error.type}:"
                f" {record.error.message}",
                record.error.type,
                record.error.message,
            )
        raise ResultFailure(f"job {self.id} of actor {record.actor!r} is {record.status}")

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.record.actor} {self.status}>"
