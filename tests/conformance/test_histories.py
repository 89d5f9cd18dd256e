"""Random histories, on the engine under test and on the memory engine as its model."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle
from hypothesis.stateful import consumes
from hypothesis.stateful import initialize
from hypothesis.stateful import invariant
from hypothesis.stateful import multiple
from hypothesis.stateful import rule
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import run_state_machine_as_test

from flask_taskq.config import Settings
from flask_taskq.engines.base import Consumer
from flask_taskq.engines.base import Engine
from flask_taskq.engines.memory import MemoryEngine
from flask_taskq.errors import LeaseLost
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.delivery import Settlement
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import Lane
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Progress
from flask_taskq.jobs.record import Status
from flask_taskq.jobs.record_limits import KEPT_LOG_LINES
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import expired
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry
from tests.support.bench import snoozed

LEASE = 3_000
SETTINGS = {"lease": LEASE, "result_ttl": 5_000, "failed_ttl": 9_000, "max_crashes": 3}

#: Worker -> the queue that it reads, and the lane that it serves. Each has one queue:
#: which of several an engine turns to first is its own business.
WORKERS = {
    "w1": ("a", Lane.ORDINARY),
    "w2": ("a", Lane.ORDINARY),
    "w3": ("b", Lane.ORDINARY),
    "solo": ("a", Lane.ALONE),
}

priorities = st.sampled_from([-1, 0, 0, 5])
workers = st.sampled_from(sorted(WORKERS))
kinds = st.sampled_from(
    [
        "done",
        "told",
        "followed",
        "failed",
        "cancelled",
        "expired",
        "retry",
        "released",
        "release later",
        "snoozed",
    ]
)
rare = st.sampled_from([False, False, True])
UNCHARGED = ("expired", "released", "release later", "snoozed")
offsets = st.sampled_from([-1, 0, 1, 700, 2_500])
told = st.tuples(st.booleans(), st.sampled_from([0, 1, 40]))


class Pair(msgspec.Struct, frozen=True):
    """One delivery, as the engine under test gave it out and as the model did."""

    tested: Delivery
    model: Delivery


class Histories(RuleBasedStateMachine):
    """Does the same to both engines and compares all that can be seen of them.

    Beside that it counts, so that an error which both have in common is found too.
    """

    new_engine: Any

    jobs = Bundle("jobs")
    deliveries = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.tested: Engine = self.new_engine(self.clock, **SETTINGS)
        self.model = MemoryEngine(
            Settings(broker_url="memory://", **SETTINGS),
            self.clock,
        )
        self.consumers = {name: self.make_consumers(name) for name in WORKERS}
        self.ids: list[str] = []
        self.records: dict[str, JobRecord | None] = {}
        self.charged: dict[str, int] = {}
        self.claims: dict[str, int] = {}
        self.crashes: dict[str, int] = {}

    def make_consumers(self, name: str) -> tuple[Consumer, Consumer]:
        queue, lane = WORKERS[name]
        return (
            self.tested.consumer([queue], name, lane),
            self.model.consumer([queue], name, lane),
        )

    def teardown(self) -> None:
        for tested, model in self.consumers.values():
            tested.close()
            model.close()
        self.tested.close()

    def both(self, act: Any) -> Any:
        """Do it to both engines; what came of it, which is the same."""
        tested, model = act(self.tested), act(self.model)
        assert tested == model
        return model

    @initialize(target=jobs, priorities=st.lists(priorities, min_size=3, max_size=6))
    def begin(self, priorities: list[int]) -> Any:
        self.register_all()
        return self.enqueue("a", priorities, None)

    def register_all(self) -> None:
        for name in WORKERS:
            self.both(lambda engine, name=name: engine.workers.register(name))

    # Senders

    @rule(
        target=jobs,
        queue=st.sampled_from(["a", "a", "b"]),
        priorities=st.lists(priorities, min_size=1, max_size=3),
        delay=st.sampled_from([None, None, 0, 1, 700, 2_500]),
    )
    def enqueue(self, queue: str, priorities: list[int], delay: int | None) -> Any:
        now = self.clock.now()
        envelopes = []
        for priority in priorities:
            self.ids.append(f"{len(self.ids) + 1:032x}")
            envelope = Envelope(
                id=self.ids[-1],
                queue=queue,
                actor="add",
                priority=priority,
                message=self.ids[-1].encode(),
                created_at=now,
                due_at=None if delay is None else now + delay,
            )
            envelopes.append(envelope)
        self.both(lambda engine: engine.enqueue(envelopes))
        return multiple(*envelopes)

    @rule(envelope=jobs)
    def enqueue_again(self, envelope: Envelope) -> None:
        if self.both(lambda engine: engine.jobs.get(envelope.id)) is None:
            # Whether a record that has expired was removed by now is not to be seen, so
            # whether its id is taken cannot be told.
            return
        self.both(lambda engine: engine.enqueue([envelope]))

    @rule(envelope=jobs)
    def cancel(self, envelope: Envelope) -> None:
        self.both(lambda engine: engine.jobs.cancel(envelope.id))

    # Workers

    @rule(target=deliveries, name=workers, limit=st.integers(1, 4))
    def fetch(self, name: str, limit: int) -> Any:
        fetched = []
        for consumer in self.consumers[name]:
            try:
                fetched.append(consumer.fetch(limit, 0))
            except LeaseLost:
                fetched.append(None)
        assert (fetched[0] is None) is (fetched[1] is None)
        return self.delivered(fetched[0] or [], fetched[1] or [])

    @rule(
        target=deliveries,
        name=workers,
        pairs=st.lists(deliveries, max_size=4),
        kinds=st.lists(kinds, min_size=4, max_size=4),
        offset=offsets,
        then_fetch=st.integers(0, 2),
    )
    def settle(
        self, name: str, pairs: list[Pair], kinds: list[str], offset: int, then_fetch: int
    ) -> Any:
        tested, model = (
            consumer.settle_if_held(settlements, then_fetch)
            for consumer, settlements in zip(
                self.consumers[name],
                (
                    [
                        self.settlement(delivery, kind, offset)
                        for delivery, kind in zip(side, kinds, strict=False)
                    ]
                    for side in (
                        [pair.tested for pair in pairs],
                        [pair.model for pair in pairs],
                    )
                ),
                strict=True,
            )
        )
        assert (tested.outcomes, tested.ready) == (model.outcomes, model.ready)
        tokens = [token(pair.model) for pair in pairs]
        for held, kind, outcome in zip(tokens, kinds, model.outcomes, strict=False):
            if outcome is not None and kind not in UNCHARGED:
                self.charged[held[0]] = self.charged.get(held[0], 0) + 1
        return self.delivered(tested.deliveries, model.deliveries)

    @rule(
        target=deliveries,
        name=workers,
        kind=kinds,
        offset=offsets,
        is_forgotten=rare,
        told=told,
    )
    def work(
        self, name: str, kind: str, offset: int, is_forgotten: bool, told: tuple[bool, int]
    ) -> Any:
        # What workers do most, in one rule, so that many histories have much of it.
        fetched = self.fetch(name, 2)
        pairs = list(fetched.values)
        self.report(name, pairs, told)
        if is_forgotten:
            return fetched
        again = self.settle(name, pairs, [kind] * len(pairs), offset, 1)
        return multiple(*fetched.values, *again.values)

    @rule(pair=consumes(deliveries), kind=kinds, offset=offsets)
    def settle_one(self, pair: Pair, kind: str, offset: int) -> None:
        self.settle(pair.model.worker, [pair], [kind], offset, 0)

    @rule(name=workers, pairs=st.lists(deliveries, max_size=4), told=told)
    def report(self, name: str, pairs: list[Pair], told: tuple[bool, int]) -> None:
        tested, model = (
            consumer.report_if_held(
                [Report(delivery=one, **self.told(one, *told)) for one in side]
            )
            for consumer, side in zip(
                self.consumers[name],
                ([pair.tested for pair in pairs], [pair.model for pair in pairs]),
                strict=True,
            )
        )
        assert list(map(token, tested.stale)) == list(map(token, model.stale))
        assert list(map(token, tested.cancelled)) == list(map(token, model.cancelled))
        named = list(map(token, [*model.stale, *model.cancelled]))
        for pair in pairs:
            record = self.records.get(pair.model.id)
            if record is not None and record.cancel_requested:
                assert token(pair.model) in named

    def told(self, delivery: Delivery, has_progress: bool, lines: int) -> dict[str, Any]:
        now, attempt = self.clock.now(), delivery.attempt
        return {
            "progress": Progress(1.0, 2.0, None, now) if has_progress else None,
            "logs": (LogLine(now, "info", f"of claim {delivery.claim}", attempt),) * lines,
        }

    def settlement(self, delivery: Delivery, kind: str, offset: int) -> Settlement:
        now = self.clock.now()
        match kind:
            case "told":
                return retry(delivery, at=now + offset, **self.told(delivery, True, 1))
            case "done":
                return done(delivery, delivery.message, started_at=now + offset)
            case "failed":
                return failed(delivery)
            case "followed":
                return done(delivery, started_at=now, follow_ups=(self.follow_up(delivery),))
            case "expired":
                return expired(delivery)
            case "cancelled":
                return cancelled(delivery, started_at=now)
            case "snoozed":
                return snoozed(delivery, at=now + offset, started_at=now)
            case "retry":
                return retry(delivery, at=now + offset, started_at=now)
            case "released":
                return released(delivery, reason="shutdown")
            case _:
                return released(delivery, at=now + offset, reason="unknown_actor")

    def follow_up(self, delivery: Delivery) -> Envelope:
        # The same for both engines, and for a second settlement of this delivery.
        id_ = f"{delivery.claim:08x}" + delivery.id[8:]
        if id_ not in self.ids:
            self.ids.append(id_)
        return Envelope(
            id=id_,
            queue="b",
            actor="add",
            priority=delivery.priority,
            message=b"{}",
            created_at=self.clock.now(),
        )

    def delivered(self, tested: list[Delivery], model: list[Delivery]) -> Any:
        """Compare what was fetched, and check what holds for every delivery."""
        assert list(map(without_handle, tested)) == list(map(without_handle, model))
        for delivery in model:
            assert delivery.claim == self.claims.get(delivery.id, 0) + 1
            assert delivery.attempt == self.charged.get(delivery.id, 0) + 1
            assert delivery.crashes == self.crashes.get(delivery.id, 0)
            self.claims[delivery.id] = delivery.claim
            record = self.model.jobs.get(delivery.id)
            assert record is not None and record.progress is None, "a new run has told nothing"
        return multiple(*map(Pair, tested, model))

    # Supervisors

    @rule(names=st.lists(workers, unique=True), is_new=st.booleans())
    def hold_leases(self, names: list[str], is_new: bool) -> None:
        self.both(lambda engine: engine.workers.renew(names))
        if is_new:
            self.register_all()

    @rule(target=deliveries, name=workers, has_started=st.booleans())
    def fetch_and_die(self, name: str, has_started: bool) -> Any:
        fetched = self.fetch(name, 2)
        self.hand_back(name, list(fetched.values) if has_started else [])
        self.register_all()
        self.clock.advance(700)
        return fetched

    @rule(target=deliveries, is_settled=st.booleans(), kind=kinds)
    def meet_poison(self, is_settled: bool, kind: str) -> Any:
        # Two crashes of one job, which chance alone brings about too seldom.
        fetched = [self.fetch_and_die("w1", True), self.fetch_and_die("w1", True)]
        self.clock.advance(2_000)
        fetched.append(self.work("solo", kind, 1, not is_settled, (False, 1)))
        return multiple(*(pair for some in fetched for pair in some.values))

    @rule(name=workers, some=st.lists(deliveries, max_size=3))
    def hand_back(self, name: str, some: list[Pair]) -> None:
        started = sorted({pair.model.id for pair in some})
        for job_id in started:
            record = self.model.jobs.get(job_id)
            if record is not None and (record.status, record.worker) == ("running", name):
                if name in self.model.store.leases:
                    self.crashes[job_id] = self.crashes.get(job_id, 0) + 1
        self.both(
            lambda engine: sorted(engine.workers.hand_back(name, started, "killed by test"))
        )

    @rule()
    def reap(self) -> None:
        self.both(lambda engine: sorted(engine.workers.reap()))

    # Operators, and time

    @rule(milliseconds=st.sampled_from([1, 100, 700, 700, 2_000, LEASE, 6_000]))
    def advance(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)

    @rule()
    def look_after(self) -> None:
        self.both(lambda engine: engine.jobs.prune())
        self.both(lambda engine: engine.queues.has_due(["a"], Lane.ALONE))
        self.both(lambda engine: engine.queues.has_due(["a", "b"], Lane.ALONE))

    @rule(queue=st.sampled_from(["a", "b"]), is_meant=rare)
    def purge(self, queue: str, is_meant: bool) -> None:
        if is_meant:
            self.both(lambda engine: engine.queues.purge(queue))

    # What holds after every step

    @invariant()
    def depths_agree(self) -> None:
        self.both(lambda engine: engine.queues.depths())

    @invariant()
    def records_agree(self) -> None:
        for job_id in self.ids:
            before = self.records.get(job_id)
            after = self.both(lambda engine, id_=job_id: engine.jobs.get(id_))
            if before is not None and after is not None:
                self.check_change(before, after)
            if after is not None:
                self.check_counters(after)
            self.records[job_id] = after

    def check_change(self, before: JobRecord, after: JobRecord) -> None:
        if before.status.is_final:
            assert after == before, "a final record changed"
        elif after != before:
            assert after.version > before.version
            assert after.updated_at >= before.updated_at
            assert after.crashes >= before.crashes
            assert after.suspects >= before.suspects
            assert after.message == before.message
            added = len(after.logs) - len(before.logs)
            assert added >= 0, "lines were lost"
            if len(after.logs) < KEPT_LOG_LINES:
                assert after.logs[: len(before.logs)] == before.logs
        if after.status in (Status.SUCCEEDED, Status.FAILED):
            assert self.claims.get(after.id, 0) > 0, "only a run has an outcome"

    def check_counters(self, record: JobRecord) -> None:
        charged = self.charged.get(record.id, 0)
        assert record.attempt == charged + (record.status is Status.RUNNING)
        assert record.crashes == self.crashes.get(record.id, 0)
        assert (record.scheduled_for is not None) is (record.status is Status.SCHEDULED)
        assert (record.finished_at is not None) is record.status.is_final
        assert (record.result is not None) is (record.status is Status.SUCCEEDED)


def token(delivery: Delivery) -> tuple[str, str, int]:
    return delivery.id, delivery.worker, delivery.claim


def without_handle(delivery: Delivery) -> Delivery:
    """A delivery without what only its own engine understands."""
    return msgspec.structs.replace(delivery, handle=None)


def test_whatever_happens_the_engine_and_the_model_agree(
    request: pytest.FixtureRequest, new_engine
) -> None:
    """Any history leads to the same records and the same deliveries, and breaks no rule."""

    class HistoriesOfThisEngine(Histories):
        pass

    HistoriesOfThisEngine.new_engine = staticmethod(new_engine)
    examples = 2 * settings().max_examples
    if "+" in request.node.callspec.params["new_engine"]:
        # Both of its engines do this in full, and each of its steps takes several of theirs.
        examples //= 10
    run_state_machine_as_test(
        HistoriesOfThisEngine,
        settings=settings(max_examples=examples, stateful_step_count=50),
    )
