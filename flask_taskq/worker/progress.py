"""Stores the progress and the log lines of jobs while they run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from typing import TypeVar

import msgspec

from ..actors.run_progress import RunProgress
from ..engines.base import Consumer
from ..engines.base import Reported
from ..jobs.delivery import Delivery
from ..jobs.delivery import Report
from ..jobs.delivery import Settlement
from ..jobs.record_limits import KEPT_LOG_LINES

Update = TypeVar("Update", bound=Report | Settlement)


class Running(Protocol):
    """The parts of a current run that are needed here."""

    @property
    def delivery(self) -> Delivery: ...

    @property
    def unreported(self) -> RunProgress | None: ...


class Reporter:
    """Reports progress and log lines of runs.

    Only the settler thread uses it. Progress that was taken from a run for a report is not in
    its settlement. If another thread stored the settlement before the report, the report
    would be refused and lost.

    :param consumer: the consumer of the worker.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        # Taken from runs, and not stored because the engine was out of reach.
        self._unsent: dict[str, Report] = {}

    def report(self, runs: Iterable[Running]) -> Reported:
        """Store the new progress of these runs, and return which of them are to end.

        Call it about once a second while any job runs, also if nothing is new. Progress that
        could not be stored is stored with the next call, or with the outcome.

        :raises BrokerError: the engine is out of reach.
        """
        reports = [self._complete(_report(run)) for run in runs]
        self._unsent.update(
            (report.delivery.id, report) for report in reports if report.progress or report.logs
        )
        reported = self._consumer.report_if_held(reports)
        for report in reports:
            self._unsent.pop(report.delivery.id, None)
        return reported

    def complete(self, settlements: list[Settlement]) -> list[Settlement]:
        """Settlements, with the progress of their runs that could not be reported before.

        Each settlement is passed once, and replaced by the result.
        """
        if not self._unsent:
            return settlements
        return [self._complete(settlement) for settlement in settlements]

    def _complete(self, update: Update) -> Update:
        unsent = self._take_unsent(update.delivery)
        if unsent is None:
            return update
        logs = (*unsent.logs, *update.logs)[-KEPT_LOG_LINES:]
        return msgspec.structs.replace(
            update, progress=update.progress or unsent.progress, logs=logs
        )

    def _take_unsent(self, delivery: Delivery) -> Report | None:
        unsent = self._unsent.pop(delivery.id, None)
        if unsent is None or unsent.delivery != delivery:
            return None  # or it is of a run that this worker has lost
        return unsent


def add_progress(settlement: Settlement, unreported: RunProgress) -> Settlement:
    """The settlement of a run, with the progress and log lines that were not reported yet."""
    new = unreported.take()
    if new is None:
        return settlement
    return msgspec.structs.replace(settlement, progress=new.progress, logs=new.logs)


def _report(run: Running) -> Report:
    unreported = run.unreported
    new = None if unreported is None else unreported.take()
    if new is None:
        return Report(delivery=run.delivery)
    return Report(delivery=run.delivery, progress=new.progress, logs=new.logs)
