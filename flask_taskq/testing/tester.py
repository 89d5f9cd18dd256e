"""What a test does with the jobs of an app."""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any
from typing import Final
from typing import overload
from typing import ParamSpec
from typing import Self
from typing import TypeAlias
from typing import TypeVar

from flask import Flask
from werkzeug.test import Client
from werkzeug.test import TestResponse

from ..actors.actor import Actor
from ..actors.job import Job
from ..app.class_actors import GenericActor
from ..app.class_actors import Performs
from ..app.class_actors import PerformsAsync
from ..clock import Clock
from ..config import milliseconds
from ..errors import ConfigurationError
from ..jobs.record import JobRecord
from ..jobs.record import Status
from ..worker.inline import InlineWorker
from ..worker.inline import Ran
from ..worker.inline_event_loop import inline_loop
from .clock import MovableClock
from .draining import find_broker
from .draining import finish
from .draining import get_engine
from .draining import JobFailed
from .fault_injector import FaultInjector
from .matching import describe_count
from .matching import describe_missing
from .matching import Expectation
from .threaded_worker import ThreadedWorker

P = ParamSpec("P")
R = TypeVar("R")

#: An actor, given itself or by its name.
AnyActor: TypeAlias = Actor[..., Any] | type[GenericActor] | str

#: How many runs a test may need, before jobs are taken to send each other without an end.
MAX_RUNS: Final = 10_000

_WAITING: Final = (Status.QUEUED, Status.SCHEDULED, Status.BLOCKED)


class JobTester:
    """The jobs of one app, in the hands of a test: a context manager.

    While it is open, jobs wait in memory until the test runs them, in its own thread or in
    those of :meth:`worker`, and their time stands still until :meth:`advance` or :meth:`drain`
    moves it on. When it is closed, all jobs of the app are gone.

    :param app: an app with ``TASKQ_BROKER_URL`` set to ``memory://``.
    :param clock: the time; by default, the app's own clock if it can be moved, else a
        :class:`MovableClock`.
    :raises ConfigurationError: the app has no ``TaskQ``, or its jobs are not in memory.
    """

    def __init__(self, app: Flask, *, clock: MovableClock | None = None) -> None:
        self._broker = find_broker(app)
        self._engine = get_engine(self._broker)
        if self._broker.run_at_once is not None:
            raise ConfigurationError(
                f"TASKQ_EAGER is on in the app {app.name!r}: its jobs run where they are sent,"
                " and none is left to a test; turn it off in the app of the tests"
            )
        known = self._broker.clock
        #: The time of the app's jobs.
        self.clock: MovableClock = clock or (
            known if isinstance(known, MovableClock) else MovableClock()
        )
        self._faults = FaultInjector()
        self._restored: Clock = known
        self._inline = InlineWorker(self._broker, self._engine, move_to=self._move_to)
        self._threaded: ThreadedWorker | None = None
        # Ids of the jobs whose failure drain() or join() has reported.
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        if any(isinstance(one, FaultInjector) for one in self._broker.middleware):
            raise RuntimeError(
                "another JobTester has the jobs of this app: take that one, which may be the"
                " fixture taskq_jobs"
            )
        self._restored = self._broker.clock
        self._set_clock(self.clock)
        self._broker.run_awaited = self._inline.run_awaited
        self._broker.add_middleware(self._faults)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._broker.remove_middleware(self._faults)
        self._broker.run_awaited = None
        inline_loop.clear()
        self._set_clock(self._restored)
        self._engine.clear()
        if exc is None and self._faults.left:
            __tracebackhide__ = True
            # The test would pass whatever the app does about it.
            raise AssertionError(
                f"no job ran for {', '.join(self._faults.left)}: run one after it"
            )

    def _set_clock(self, clock: Clock) -> None:
        self._broker.clock = clock
        self._engine.set_clock(clock)

    # What is enqueued

    def enqueued(
        self, actor: AnyActor | None = None, *, queue: str | None = None
    ) -> list[Job[Any]]:
        """The jobs that wait, also those for a later time or for a retry, in the order in
        which they were sent. ``job.message`` has their arguments.

        :param actor: only those of this actor, given itself or by its name.
        :param queue: only those in this queue.
        :raises ActorNotFound: the app has no such actor.
        """
        name = None if actor is None else self._find(actor).actor_name
        return [
            job
            for job in self._jobs(*_WAITING)
            if name in (None, job.record.actor) and queue in (None, job.record.queue)
        ]

    @overload
    def assert_enqueued(
        self,
        actor: Actor[..., R],
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: int | timedelta | None = None,
        count: int | None = None,
    ) -> Job[R]: ...

    @overload
    def assert_enqueued(
        self,
        actor: type[GenericActor] | str,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: int | timedelta | None = None,
        count: int | None = None,
    ) -> Job[Any]: ...

    def assert_enqueued(
        self,
        actor: AnyActor,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: int | timedelta | None = None,
        count: int | None = None,
    ) -> Job[Any]:
        """Fail, and show what is enqueued instead, unless such a job waits.

        Arguments are compared as JSON has them, by the names of the actor's parameters: it
        does not matter whether they were given by position or by name, and one that was left
        out has its default. What compares in its own way, such as ``unittest.mock.ANY``, can
        stand anywhere.

        :param actor: whose job, given itself or by its name.
        :param args: the arguments by position, all that are not left at their defaults.
        :param kwargs: some arguments by name; the job may have others.
        :param queue: where it waits.
        :param delay: how long after it was sent it may run at the earliest, in milliseconds;
            0 for at once.
        :param count: how many such jobs wait; by default, at least one.
        :return: the first of them.
        :raises AssertionError: there is none, or another number of them.
        :raises ActorNotFound: the app has no such actor.
        :raises BadArguments: the actor does not take such arguments.
        """
        __tracebackhide__ = True
        if count is not None and count < 1:
            raise ValueError(f"count is {count}; for none there is refute_enqueued()")
        expected = Expectation(
            self._find(actor), args=args, kwargs=kwargs, queue=queue, delay=delay
        )
        waiting = self.enqueued()
        found = [job for job in waiting if not expected.differences(job)]
        if not found:
            others = [status for status in Status if status not in _WAITING]
            gone = [job for job in self._jobs(*others) if not expected.differences(job)]
            raise AssertionError(describe_missing(expected, waiting, gone))
        if count is not None and len(found) != count:
            raise AssertionError(describe_count(expected, count, found))
        return found[0]

    def refute_enqueued(
        self,
        actor: AnyActor,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: int | timedelta | None = None,
    ) -> None:
        """Fail, and show it, if such a job waits. The parameters are those of
        :meth:`assert_enqueued`.

        :raises AssertionError: there is one.
        :raises ActorNotFound, BadArguments: no job could ever be such a one.
        """
        __tracebackhide__ = True
        expected = Expectation(
            self._find(actor), args=args, kwargs=kwargs, queue=queue, delay=delay
        )
        found = [job for job in self.enqueued() if not expected.differences(job)]
        if found:
            raise AssertionError(describe_count(expected, 0, found))

    # Running jobs

    def drain(
        self,
        *,
        within: int | timedelta | None = None,
        max_runs: int = MAX_RUNS,
        raise_failures: bool = True,
    ) -> list[Job[Any]]:
        """Run all jobs in this thread, until none waits: also those that they send, those
        that were sent for later, and those that failed and are to run again. The clock is
        moved on to the time of the next one whenever none may run before.

        When all have run, it fails if one of them has failed for good. A job that succeeded
        at a later attempt has not, nor has one that was given up or has expired.

        :param within: run only what may run within so many milliseconds from now, and leave
            the others; 0 for what may run now.
        :param max_runs: give up after so many runs.
        :param raise_failures: raise what has failed for good; False for a test of failures.
        :return: handles on the jobs, in the order in which their runs ended; a job that ran
            twice is there twice.
        :raises JobFailed: a job has failed for good, expected or not. The cause is what its
            actor raised.
        :raises AssertionError: jobs are still waiting after so many runs.
        """
        __tracebackhide__ = True
        until = None if within is None else self.clock.now() + milliseconds(within)
        with self._inline.collecting() as ran:
            while self._run_or_move(until) is not None:
                if len(ran) >= max_runs and (left := self._count_due(until)):
                    raise AssertionError(
                        f"{len(ran):,} jobs ran, the last one of actor"
                        f" {ran[-1].record.actor!r}, and {left:,} are waiting: does one send"
                        " itself again and again? Run what is due in some time with"
                        " drain(within=...), or allow more max_runs"
                    )
        self._told.update(one.record.id for one in ran)
        return finish(self._broker, ran, raise_failures)

    def run_next(self) -> Job[Any]:
        """Run the one job that is next.

        :return: a handle on it, as it is afterwards.
        :raises AssertionError: no job may run now.
        """
        self._refuse_second_worker()
        ran = self._inline.run_next()
        if ran is None:
            __tracebackhide__ = True
            raise AssertionError(f"no job may run now: {self._describe_waiting()}")
        return Job(ran.record, self._broker)

    @overload
    def perform(self, actor: Actor[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def perform(
        self, actor: type[PerformsAsync[P, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    def perform(
        self, actor: type[Performs[P, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    def perform(self, actor: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run an actor once, as a job: its arguments and its result are written as JSON and
        read back, and it has the app's context, hooks and a record. Nothing is left in the
        queue, whatever was there stays there, and a retry does not follow.

        :return: the result.
        :raises BaseException: what the actor raised, as it is.
        :raises BadArguments: the arguments do not fit the actor, or JSON.
        :raises BadResult: the result does not fit JSON, or the annotation of the actor.
        :raises ResultFailure: the job ended without a result and without an error.
        """
        __tracebackhide__ = True
        self._refuse_second_worker()
        job = self._broker.enqueue(self._find(actor).message(*args, **kwargs))
        try:
            ran = self._inline.run_next(only=job.id)
        finally:
            # Not by the broker: no hook and no signal is called.
            self._engine.jobs.cancel(job.id)
        if ran is not None and ran.error is not None:
            raise ran.error
        return job.refresh().get_result()

    def follow(self, client: Client, response: TestResponse) -> TestResponse:
        """Do what a client does with a 202: go to its ``Location`` when the job has ended.

        The jobs before it, its retries, and with them the time, run until it has. An answer
        whose JSON has no ``id`` of a job that the app has is followed when all jobs have run.

        :param client: of the app.
        :param response: what a view has answered.
        :return: the answer at the ``Location``.
        :raises AssertionError: the response is no 202 with a ``Location``, or the job does
            not end.
        """
        __tracebackhide__ = True
        if response.status_code != 202 or response.location is None:
            raise AssertionError(
                f"a 202 with a Location can be followed, and this is {response.status} with"
                f" Location {response.location!r}:\n\n{response.get_data(as_text=True)[:1_000]}"
            )
        body = response.get_json(silent=True)
        job_id = body.get("id") if isinstance(body, dict) else None
        names_job = self._find_record(job_id) is not None
        for _ in range(MAX_RUNS):
            if self._has_ended(job_id) or not self._go_on():
                break
        if names_job and not self._has_ended(job_id):
            raise AssertionError(f"job {job_id} does not end: {self._describe_waiting()}")
        return client.get(response.location)

    def join(
        self, queue_name: str, *, timeout: int = 10_000, raise_failures: bool = True
    ) -> None:
        """Wait until a queue is done: none of its jobs waits or runs, those for later and those
        that failed and are to run again included.

        A worker in threads runs them, if there is one, else this thread does. The clock is
        moved on to the time of the next one whenever none may run before.

        :param timeout: how long that may take, in milliseconds of the machine's time.
        :param raise_failures: raise what has failed for good in this queue, unless a
            :meth:`drain` or :meth:`join` has reported it before.
        :raises JobFailed: a job has. The cause is what its actor raised, if it ran in this
            thread.
        :raises AssertionError: the queue is not done in time.
        :raises ValueError: no actor has this queue, and no message was sent to it.
        """
        __tracebackhide__ = True
        known = self._broker.get_declared_queues()
        if queue_name not in known:
            raise ValueError(f"no queue is named {queue_name!r}; there are {sorted(known)}")
        until = time.monotonic() + timeout / 1000
        with self._inline.collecting() as ran:
            while left := self._left_in(queue_name):
                if time.monotonic() >= until:
                    names = ", ".join(f"{job.record.actor} ({job.status})" for job in left[:5])
                    raise AssertionError(
                        f"{len(left)} jobs of queue {queue_name!r} have not ended after"
                        f" {timeout:,} ms: {names}"
                    )
                self._go_on_with(queue_name, until)
        errors = {one.record.id: one.error for one in ran}
        failed = self._untold(
            job for job in self._jobs(Status.FAILED) if job.record.queue == queue_name
        )
        if failed and raise_failures:
            raise JobFailed(failed) from errors.get(failed[0].id)

    @contextmanager
    def worker(self, *, threads: int = 2) -> Iterator[ThreadedWorker]:
        """A worker in threads of this process, for the length of a ``with`` block. The end of
        the block waits until all jobs have run that may run now.

        :param threads: how many jobs run at the same time.
        :raises AssertionError: jobs do not end.
        """
        __tracebackhide__ = True
        self._refuse_second_worker()
        self._threaded = ThreadedWorker(self._broker, self._engine, threads)
        try:
            with self.clock.running(), self._threaded as worker:
                yield worker
        finally:
            self._threaded = None

    # Time

    def advance(self, duration: int | timedelta) -> None:
        """Move the time on, for all of the app's jobs. What has become due runs when the test
        runs it.

        :param duration: milliseconds or a timedelta.
        """
        # In one step: a worker that fetches must not see that its lease has run out.
        with self._engine.store.changed:
            self.clock.advance(duration)
            self._engine.workers.renew([*self._engine.store.leases])
            if self._threaded is not None:
                self._threaded.tick()

    # What goes wrong

    def fail_next(
        self,
        error: BaseException | type[BaseException],
        actor: AnyActor | None = None,
    ) -> None:
        """Let the next job that runs raise an error in place of what its actor does. Called
        again, it is the one after that.

        :param actor: the next one of this actor.
        """
        self._faults.plan(None if actor is None else self._find(actor).actor_name, error)

    def crash_next(self, actor: AnyActor | None = None) -> None:
        """Let the next job that runs do all of its work, and then lose its outcome, as though
        its worker was killed in that moment. It gets a crash, and runs again.

        :param actor: the next one of this actor.
        """
        self._faults.plan(None if actor is None else self._find(actor).actor_name, None)

    # Inside

    def _find(self, actor: AnyActor) -> Actor[..., Any]:
        # By its name: an actor that is a class is no Actor, and another app's is unknown here.
        name = actor if isinstance(actor, str) else getattr(actor, "actor_name", actor)
        return self._broker.get_actor(str(name))

    def _jobs(self, *statuses: Status) -> list[Job[Any]]:
        return [Job(record, self._broker) for record in self._engine.records(*statuses)]

    def _count_due(self, until: int | None) -> int:
        waiting = self._engine.records(*_WAITING)
        return sum(until is None or (one.scheduled_for or 0) <= until for one in waiting)

    def _find_record(self, job_id: Any) -> JobRecord | None:
        return self._engine.jobs.get(job_id) if isinstance(job_id, str) else None

    def _has_ended(self, job_id: Any) -> bool:
        record = self._find_record(job_id)
        return record is not None and record.status.is_final

    @property
    def _is_served(self) -> bool:
        """Whether a worker in threads runs the jobs."""
        return self._threaded is not None or self._inline.has_worker()

    def _refuse_second_worker(self) -> None:
        if self._is_served:
            raise RuntimeError(
                "a worker is running the jobs already: wait for it with join(), or stop it"
            )

    def _run_or_move(self, until: int | None) -> Ran | None:
        """Run the next job, and move the clock as far as that needs, but not beyond a time.

        :return: its run; None if there is none.
        """
        self._refuse_second_worker()
        while (ran := self._inline.run_next()) is None:
            if not self._move(until):
                return None
        return ran

    def _move(self, until: int | None) -> bool:
        """Move the clock to where the next job is due, but not beyond a time.

        :return: whether there is one.
        """
        with self._engine.store.changed:
            due_at = self._engine.store.next_due()
        if due_at is None or (until is not None and due_at > until):
            return False
        self._move_to(due_at)
        return True

    def _move_to(self, time: int) -> None:
        self.advance(max(0, time - self.clock.now()))

    def _go_on(self) -> bool:
        """Run what can run, here or in the threads. :return: whether anything has changed."""
        if self._threaded is None:
            return self._run_or_move(None) is not None
        was_idle = self._threaded.is_idle
        self._threaded.wait_until_idle()
        return not was_idle or self._move(None)

    def _left_in(self, queue_name: str) -> list[Job[Any]]:
        jobs = self._jobs(*_WAITING, Status.RUNNING)
        return [job for job in jobs if job.record.queue == queue_name]

    def _go_on_with(self, queue_name: str, until: float) -> None:
        """Let something happen to the jobs of a queue that has some."""
        changed = self._engine.store.changed
        if not self._is_served and self._inline.run_next(queues=[queue_name]) is not None:
            return
        with changed:
            left = [job.record for job in self._left_in(queue_name)]
            if left and all(record.status is Status.SCHEDULED for record in left):
                self._move_to(min(record.scheduled_for or 0 for record in left))
            elif left:
                changed.wait(max(0.0, until - time.monotonic()))

    def _untold(self, failed: Iterable[Job[Any]]) -> list[Job[Any]]:
        """The failures among these jobs that were not reported before; they are now."""
        new = [job for job in failed if job.id not in self._told]
        self._told.update(job.id for job in new)
        return new

    def _describe_waiting(self) -> str:
        waiting = self._jobs(Status.SCHEDULED)
        if not waiting:
            return "none is scheduled for later"
        first = min(waiting, key=lambda job: job.record.scheduled_for or 0)
        left = (first.record.scheduled_for or 0) - self.clock.now()
        return (
            f"the next one is {first.message} in {left:,} ms; advance() moves the time on, and"
            " drain() does so by itself"
        )
