"""Runs one delivery and returns its settlement: decode, find the actor, open the contexts,
before hooks, call, after hooks, outcome.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any
from typing import Final

import msgspec

from ..actors.actor import Actor
from ..actors.broker import Broker
from ..actors.hook_chain import RunHooks
from ..actors.run import Decision
from ..actors.run import Run
from ..actors.run import running
from ..errors import ActorNotFound
from ..errors import BadArguments
from ..errors import BadResult
from ..errors import DecodeError
from ..errors import Interrupt
from ..errors import PayloadTooLarge
from ..errors import SkipMessage
from ..errors import TaskQError
from ..errors import TimeLimitExceeded
from ..jobs.delivery import Delivery
from ..jobs.delivery import Failed
from ..jobs.delivery import Released
from ..jobs.delivery import Settlement
from ..jobs.encoding import decode_message
from ..jobs.encoding import encode_value
from ..jobs.message import Message
from ..jobs.message import UNCHECKED
from ..jobs.record import JobError
from ..loggers import get_logger
from . import forked_processes
from .error_hints import add_hint
from .interrupt import find_frame
from .interrupt import Gate
from .outcome import classify
from .outcome import cut
from .outcome import format_stack
from .outcome import is_cancelled
from .outcome import log_fields
from .outcome import OutcomeLine
from .outcome import OUTCOMES
from .progress import add_progress

logger = get_logger("flask_taskq.jobs")

#: How long a job waits for a worker that knows its actor, in milliseconds. The time doubles
#: from the minimum to the maximum.
_MIN_RELEASE: Final = 1_000
_MAX_RELEASE: Final = 60_000


class Runner:
    """Runs deliveries, one at a time, in the thread that calls it.

    :param broker: the broker of the app whose actors run.
    :param catches: exceptions of an actor that become the job's error; others are raised.
    :param on_start: called when an actor is about to run.
    :param may_release: whether a job may wait for a worker that knows its actor, or knows
        another version of it. Otherwise the job fails.
    """

    def __init__(
        self,
        broker: Broker,
        catches: tuple[type[BaseException], ...] = (BaseException,),
        on_start: Callable[[Run], None] | None = None,
        may_release: bool = True,
    ) -> None:
        #: The current run. Other threads read it; it may have ended when they use it.
        self.current: Run | None = None
        # Exceptions from other threads are raised only in the actor's own code.
        self._gate = Gate()
        self._catches = catches
        self._on_start = on_start
        self._may_release = may_release
        self._broker = broker
        self._chain = broker.chain
        self._hooks = broker.chain.any_run
        self._settings = broker.settings
        self._clock = broker.clock
        self._generation = forked_processes.generation
        # For times that are stored. The engine's clock is the same on all machines.
        self._now = broker.engine.now

    def run(self, delivery: Delivery, now: float | None = None) -> Settlement:
        """Run one job and return its settlement, also when it fails.

        :param now: milliseconds of the monotonic clock, if the caller has just read it.
        """
        if now is None:
            now = self._clock.monotonic()
        # In a copy of the context: a context variable that one job sets is not seen by the
        # next.
        return copy_context().run(self._run, delivery, now)

    def interrupt(self, run: Run, exception: type[Interrupt]) -> bool:
        """Raise an exception in a run, if its actor's code is running at this moment.

        :return: whether it was raised.
        """
        return self._gate.raise_inside(run, exception)

    def raise_interrupt(self) -> None:
        """Raise the pending interrupt of the current run, if there is one.

        Called in the run's own thread, while the actor's code waits for something.
        """
        run = self.current
        if run is not None and self._gate.is_open_for(run):
            run.raise_interrupt()

    def abandon(self, run: Run) -> Settlement:
        """Settle, from another thread, a run that has not ended after its time limit.

        If it ends later, its own settlement has a stale token and is refused.
        """
        return copy_context().run(self._abandon, run)

    def _abandon(self, run: Run) -> Settlement:
        # A copy: the thread of the run may continue at any moment.
        given_up = Run(
            run.message,
            run.delivery,
            run.actor,
            now=run.now,
            started_at=run.started_at,
            began=run.began,
            interrupts=run.interrupts,
            time_limit=run.time_limit,
            unreported=run.unreported,
            exception=TimeLimitExceeded(),
            stack=self._stack(run),
        )
        hooks = self._find_hooks(run.message)
        running.set(given_up)
        try:
            with self._chain.contexts(hooks, given_up):
                self._run_after_hooks(given_up, hooks)
        except self._catches as error:
            self._check_context(given_up, hooks, error)
        return self._settle(given_up)

    def _stack(self, run: Run) -> str:
        """The stack of a run at this moment."""
        return format_stack(find_frame(self._gate.thread_id))

    def _run(self, delivery: Delivery, now: float) -> Settlement:
        self._generation = forked_processes.generation
        run = self._begin(delivery, now)
        if not isinstance(run, Run):
            return run
        self.current, hooks = run, self._hooks
        running.set(run)
        try:
            with self._chain.contexts(hooks, run):
                self._call(run, hooks)
                self._run_after_hooks(run, hooks)
                if run.exception is not None:
                    # The contexts get it when they close: one with a database transaction
                    # must know whether to commit.
                    raise run.exception
        except self._catches as error:
            self._check_context(run, hooks, error)
        finally:
            self.current = None
        return self._settle(run)

    def _begin(self, delivery: Delivery, now: float) -> Run | Settlement:
        broker = self._broker
        try:
            message = decode_message(
                delivery.message,
                queues=broker.queues,
                actors=broker.actors,
                job_id=delivery.id,
            )
            name = message.actor_name
            actor = broker.actors.get(name) or broker.get_actor(name)
        except DecodeError as error:
            return _fail_malformed(delivery, error)
        except ActorNotFound as error:
            return self._release_later(delivery, "unknown_actor", error) or Failed(
                delivery=delivery,
                error=JobError(
                    type="ActorNotFound", message=cut(str(error)), code="unknown_actor"
                ),
            )
        # A runner has one run at a time.
        self._hooks = self._find_hooks(message)
        run = Run(
            message, delivery, actor, self._now, self._now(), now, message.args, message.kwargs
        )
        arguments = actor.arguments
        if message.kwargs or len(message.args) not in arguments.plain_counts:
            return self._convert(run, actor)
        return run

    def _convert(self, run: Run, actor: Actor[..., Any]) -> Run | Settlement:
        message, delivery = run.message, run.delivery
        try:
            run.call_args, run.call_kwargs = actor.arguments.convert(
                message.args, message.kwargs
            )
        except BadArguments as error:
            if _was_checked(message, actor):
                settlement = self._release_later(delivery, "bad_arguments", error)
                if settlement is not None:
                    return settlement
            run.misfit = error
        return run

    def _find_hooks(self, message: Message) -> RunHooks:
        if message.options:
            return self._chain.any_run
        name = message.actor_name
        return (self._broker.resolved_actors.get(name) or self._broker.resolve(name)).hooks

    def _call(self, run: Run, hooks: RunHooks) -> None:
        """Before hooks, the actor, and its result as JSON."""
        try:
            actor = self._prepare(run, hooks)
            value = self._gate.call(run, actor.fn, run.call_args, run.call_kwargs)
            if actor.is_async:
                value = self._gate.call(run, self._run_coroutine, (value,), {})
            run.value = value
        except self._catches as error:
            run.exception = error
        finally:
            if forked_processes.generation != self._generation:
                forked_processes.end(run.exception or sys.exception())
        if run.exception is None:
            self._store_result(run, actor)

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        # In a worker without an event loop: the actor was declared after the worker's start.
        return asyncio.run(coroutine)

    def _prepare(self, run: Run, hooks: RunHooks) -> Actor[..., Any]:
        """Before hooks and time limits.

        :return: the actor.
        """
        actor = run.actor
        assert actor is not None
        self._chain.call_before(hooks.before, run)
        if forked_processes.generation != self._generation:
            forked_processes.end()
        if run.time_limit is not None:
            run.limit_at = run.began + run.time_limit
            run.kill_at = run.limit_at + self._settings.hard_limit_grace
        if self._on_start is not None:
            self._on_start(run)
        if run.misfit is not None:
            # Another run would fail, too.
            run.fail()
            run.code = "bad_arguments"
            raise run.misfit
        return actor

    def _store_result(self, run: Run, actor: Actor[..., Any]) -> None:
        try:
            actor.check_result(run.value)
            if run.value is not None:
                run.result = self._encode(actor, run.value)
        except (BadResult, PayloadTooLarge) as error:
            # Another run would return the same.
            run.fail()
            run.exception, run.code = error, "bad_result"

    def _encode(self, actor: Actor[..., Any], value: Any) -> bytes:
        try:
            result = encode_value(value)
        except (TypeError, ValueError) as error:
            raise BadResult(
                f"the result of actor {actor.actor_name!r} cannot be stored: {error}"
            ) from None
        if len(result) > self._settings.max_result_size:
            raise PayloadTooLarge(
                f"actor {actor.actor_name!r} returned {len(result):,} bytes, the limit"
                f" TASKQ_MAX_RESULT_SIZE is {self._settings.max_result_size:,}; store large"
                " data elsewhere and return where it is"
            )
        return result

    def _check_context(self, run: Run, hooks: RunHooks, error: BaseException) -> None:
        if forked_processes.generation != self._generation:
            forked_processes.end(error)
        if error is not run.exception:
            # A context failed when it opened or closed, and so did the run. After hooks are
            # called, for the second time if the actor had succeeded.
            run.exception, run.follow_ups = error, ()
            if run.decision is Decision.DISCARD:
                run.decision = None
            self._run_after_hooks(run, hooks)

    def _run_after_hooks(self, run: Run, hooks: RunHooks) -> None:
        """After hooks: they decide whether a failed job runs again."""
        error = run.exception
        if error is None:
            if hooks.after_success:
                self._chain.call_after(
                    hooks.after_success, self._catches, run, result=run.value, exception=None
                )
        elif isinstance(error, SkipMessage):
            self._chain.emit_after("skip_message", run, catches=self._catches)
        else:
            _add_hint(run, error)
            if is_cancelled(run):
                run.discard()
            self._chain.call_after(
                hooks.after_failure, self._catches, run, result=None, exception=error
            )

    def _settle(self, run: Run) -> Settlement:
        if forked_processes.generation != self._generation:
            forked_processes.end()  # a hook or a context has forked this process
        settlement = classify(run, self._now)
        if logger.isEnabledFor(OUTCOMES[type(settlement)][0]):
            try:
                line = OutcomeLine(run, settlement, self._clock.monotonic() - run.began)
            except self._catches:
                pass  # an error in an app's logging does not change the outcome
            else:
                settlement = msgspec.structs.replace(settlement, line=line)
        # Its traceback has frames that refer to the run: a reference cycle.
        run.exception = None
        unreported = run.unreported
        return settlement if unreported is None else add_progress(settlement, unreported)

    def _release_later(
        self, delivery: Delivery, reason: str, error: TaskQError
    ) -> Settlement | None:
        """Let a job wait for a worker with another version of the app.

        :return: None if it has waited long enough.
        """
        # During a deployment, a job may come before the workers that know its actor or its
        # arguments. It fails if none has come within ``TASKQ_UNKNOWN_ACTOR_TTL``.
        now, limit = self._now(), self._settings.unknown_actor_ttl
        since = now if delivery.released_since is None else delivery.released_since
        if not self._may_release or now - since >= limit:
            logger.error(
                "job %s failed: %s%s",
                delivery.id,
                error,
                f"; it has waited for {now - since} ms" if self._may_release else "",
                extra=log_fields(delivery),
            )
            return None
        delay = min(_MIN_RELEASE * 2 ** min(delivery.releases, 10), _MAX_RELEASE)
        logger.warning(
            "job %s waits %d ms for another worker: %s",
            delivery.id,
            delay,
            error,
            extra=log_fields(delivery),
        )
        return Released(delivery=delivery, at=now + delay, reason=reason)


class AsyncRunner(Runner):
    """Runs deliveries of async actors, one at a time, in tasks of an event loop."""

    _task: asyncio.Task[Any] | None = None
    _thread_id = 0

    async def run_async(self, delivery: Delivery, now: float | None = None) -> Settlement:
        """Run one job in the current task, which has its own context.

        :param now: as for :meth:`run`.
        """
        self._generation = forked_processes.generation
        run = self._begin(delivery, self._clock.monotonic() if now is None else now)
        if not isinstance(run, Run):
            return run
        self._task, self.current = asyncio.current_task(), run
        self._thread_id = threading.get_ident()
        hooks = self._hooks
        running.set(run)
        try:
            with self._chain.contexts(hooks, run):
                await self._await(run, hooks)
                self._run_after_hooks(run, hooks)
                if run.exception is not None:
                    raise run.exception
        except self._catches as error:
            self._check_context(run, hooks, error)
        finally:
            self.current = None
        return self._settle(run)

    async def _await(self, run: Run, hooks: RunHooks) -> None:
        try:
            actor = self._prepare(run, hooks)
            run.value = await actor.fn(*run.call_args, **run.call_kwargs)
        except self._catches as error:
            interrupt = run.interrupted_by
            if isinstance(error, asyncio.CancelledError) and interrupt is not None:
                error = interrupt().with_traceback(error.__traceback__)
            run.exception = error
        finally:
            if forked_processes.generation != self._generation:
                forked_processes.end(run.exception or sys.exception())
        if run.exception is None:
            self._store_result(run, actor)

    def interrupt(self, run: Run, exception: type[Interrupt]) -> bool:
        """Cancel the task of a run from its event loop.

        The coroutine gets :exc:`asyncio.CancelledError`, and the run this exception.
        """
        task = self._task
        if self.current is not run or task is None:
            return False
        task.get_loop().call_soon_threadsafe(self._cancel, run)
        return True

    def _stack(self, run: Run) -> str:
        awaited: Any = None if self._task is None else self._task.get_coro()
        frames = []
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            frames.append(frame)
            if awaited.cr_running:
                # It blocks the event loop: the stack of the thread shows where.
                return format_stack(find_frame(self._thread_id))
            awaited = awaited.cr_await
        return "".join(line for frame in frames for line in format_stack(frame, 1))

    def _cancel(self, run: Run) -> None:
        # In the thread of the loop, where no run begins or ends meanwhile.
        if self.current is run and self._task is not None:
            self._task.cancel()


def _was_checked(message: Message, actor: Actor[..., Any]) -> bool:
    """Whether ``send()`` has checked the arguments: it then knew another version of the actor
    than this worker, where they do not fit."""
    if UNCHECKED in message.options:
        return False
    return actor.arguments.are_typed or not actor.arguments.fit(message.args, message.kwargs)


def _fail_malformed(delivery: Delivery, error: DecodeError) -> Settlement:
    logger.error(
        "job %s failed: its stored message is damaged: %s",
        delivery.id,
        error,
        extra=log_fields(delivery),
    )
    return Failed(
        delivery=delivery,
        error=JobError(type="DecodeError", message=cut(str(error)), code="malformed"),
    )


def _add_hint(run: Run, error: BaseException) -> None:
    delivery = run.delivery
    age = run.started_at - delivery.created_at
    add_hint(error, actor=delivery.actor, attempt=delivery.attempt, age=age)
