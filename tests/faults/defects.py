"""Engines that do what none may do, for the checker to find out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

from flask_taskq.engines.base import Engine
from flask_taskq.engines.base import Settled
from flask_taskq.engines.sqlite import SQLiteEngine
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Settlement
from flask_taskq.jobs.delivery import Succeeded
from flask_taskq.jobs.record import Status

from .consumers import Around
from .consumers import put_around


class Hasty(Around):
    """Settles a job as done before it is run."""

    def fetch(self, limit: int, timeout: int) -> list[Delivery]:
        deliveries = self._inner.fetch(limit, timeout)
        self._settle_early(deliveries)
        return deliveries

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        settled = self._inner.settle_if_held(settlements, then_fetch)
        self._settle_early(settled.deliveries)
        return settled

    def _settle_early(self, deliveries: list[Delivery]) -> None:
        done = [Succeeded(delivery=delivery, result=b"null") for delivery in deliveries]
        if done:
            self._inner.settle_if_held(done)


def settle_before_the_run(engine: Engine) -> None:
    """What a queue without acknowledgements does: a job that is fetched is gone."""
    put_around(engine, Hasty)


class Trusting(Around):
    """Accepts every settlement, also one with a stale token."""

    engine: SQLiteEngine

    def settle_if_held(self, settlements: Sequence[Settlement], then_fetch: int = 0) -> Settled:
        settled = self._inner.settle_if_held(settlements, then_fetch)
        for at, settlement in enumerate(settlements):
            if settled.outcomes[at] is None:
                self._overwrite(settlement)
                settled.outcomes[at] = Status.SUCCEEDED
        return settled

    def _overwrite(self, settlement: Settlement) -> None:
        store = self.engine._store
        tables = store.database.tables
        statement = f"""UPDATE {tables.outcome} SET finished_at = ?, version = version + 1
            WHERE seq = (SELECT seq FROM {tables.job} WHERE id = ?)"""
        values = (store.clock.now(), settlement.delivery.id)
        changed = store.write(lambda on: on.execute(statement, values).rowcount)
        assert changed == 1, "the tables of this engine look different now"


def settle_without_fencing(engine: Engine) -> None:
    """Every settlement is accepted, also one with a stale token."""
    assert isinstance(engine, SQLiteEngine)
    Trusting.engine = engine
    put_around(engine, Trusting)


DEFECTS: dict[str, Callable[[Engine], None]] = {
    "settle before the run": settle_before_the_run,
    "settle without fencing": settle_without_fencing,
}
