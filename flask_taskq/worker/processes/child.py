"""A child process after its app is built: it runs a worker, and follows orders."""

from __future__ import annotations

import faulthandler
import math
import os
import select
import signal
import threading
from typing import Final
from typing import NoReturn
from typing import Protocol

from ...actors.broker import Broker
from ...jobs.record import Lane
from ...loggers import get_logger
from ..threads.worker import Worker
from .channel import ChildSpec
from .channel import ControlChannel
from .channel import Died
from .channel import Drain
from .channel import Quit
from .channel import Ready
from .channel import ReplaceRequest
from .channel import Serves
from .channel import UnreadableMessageError
from .os_signals import LEFT_TO_THE_SUPERVISOR
from .os_signals import ORDERS
from .recycling import RecyclePolicy

logger = get_logger(__name__)

#: How often the worker's tick() is called, in seconds.
_TICK: Final = 1.0

#: How often a process that is to end checks whether its jobs have ended, in seconds.
_PATIENCE: Final = 0.2

#: How long a process for isolated jobs waits for another one, in seconds.
_IDLE_TIME: Final = 5.0


class Log(Protocol):
    """Where the process logs."""

    @property
    def is_broken(self) -> bool:
        """Whether a thread that writes lines has died."""


def ignore_signals() -> None:
    """Ignore signals that the supervisor handles, which sends orders over the channel.

    A terminal sends SIGINT and SIGHUP to the whole group: they must count once. A handler that
    does nothing is used because, unlike SIG_IGN, programs that a job starts do not inherit
    it. The supervisor starts its children with these signals blocked, so that none can hit
    before this was called.
    """
    for number in ORDERS:
        # A SIGHUP that nohup ignores stays ignored for those programs, too.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # A process that a job forks inherits it all the same, and must end when it is ordered to,
    # even if that is before it could change the handlers.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS),
        after_in_child=_handle_signals,
    )
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_SUPERVISOR)


def _handle_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)


def serve(broker: Broker, channel: ControlChannel, spec: ChildSpec, log: Log) -> None:
    """Run jobs until the supervisor orders the end, or is gone."""
    worker = Worker(
        broker,
        queues=spec.queues,
        worker_threads=spec.threads,
        worker_id=spec.worker_id,
        slots_fd=spec.slots,
        lane=spec.lane,
        on_replace=lambda reason: channel.send(ReplaceRequest(reason, urgent=True)),
        on_queues=lambda queues: channel.send(Serves(queues)),
    )
    policy = RecyclePolicy(worker, spec.max_jobs, spec.max_memory, broker.clock)
    grace = broker.settings.grace if spec.grace is None else spec.grace
    # Sent before the first job is fetched, so that the supervisor waits for its jobs.
    worker.start(announce=lambda: channel.send(Ready()))
    # In another thread, since it may wait for the engine, and orders must not wait.
    threading.Thread(target=_look_after, args=(worker, channel, log), daemon=True).start()
    order = _wait_for_order(worker, channel, spec.lane is Lane.ALONE, policy)
    threading.Thread(target=_keep_listening, args=(worker, channel), daemon=True).start()
    if isinstance(order, Quit):
        worker.hurry()
        worker.stop(0)
    else:
        worker.stop(grace if order.grace is None else order.grace)
    channel.leave_open()


def _look_after(worker: Worker, channel: ControlChannel, log: Log) -> None:
    tick = min(_TICK, worker.broker.settings.lease / 10_000)
    never = threading.Event()
    was_said = False
    while not never.wait(tick):
        try:
            worker.tick()
        except BaseException:
            logger.exception("worker %s cannot be looked after", worker.id)
        if worker.is_broken:
            # Its jobs would be stuck under a lease that is always renewed. The supervisor
            # starts another one, and hands them back.
            logger.critical("worker %s has lost a thread: ending the process", worker.id)
            os._exit(1)
        if not channel.is_whole():
            _end_cut_off(worker)
        if log.is_broken and not was_said:
            was_said = True
            channel.send(ReplaceRequest("a thread that writes its log has died", soon=True))


def _end_cut_off(worker: Worker) -> NoReturn:
    # No order can arrive any more, and a job may have damaged other descriptors, too.
    logger.critical(
        "worker %s has lost the connection to its supervisor, which a job has closed or used:"
        " ending the process",
        worker.id,
    )
    os._exit(1)


def _wait_for_order(
    worker: Worker, channel: ControlChannel, is_alone: bool, policy: RecyclePolicy
) -> Drain | Quit:
    """Wait until it is time to end, because of an order or because the supervisor is gone.

    An order without a time limit is followed here until no job is left, or until a stricter
    order.
    """
    is_leaving = False
    while channel.is_open:
        order = _listen(worker, channel, _look_again_in(is_leaving, is_alone, policy))
        if order == Drain(None):
            is_leaving = True
            worker.stop_fetching()
        elif order is not None:
            return order
        if (is_leaving or is_alone) and worker.is_idle:
            return Drain(None)
        if not is_leaving and (request := policy.look()) is not None:
            channel.send(request)
    worker.stop_fetching()
    logger.warning("the supervisor is gone: worker %s finishes its jobs and ends", worker.id)
    return Drain(None)


def _look_again_in(is_leaving: bool, is_alone: bool, policy: RecyclePolicy) -> float | None:
    if is_leaving:
        return _PATIENCE
    if is_alone:
        return _IDLE_TIME
    return _TICK if policy.has_limits else None


def _keep_listening(worker: Worker, channel: ControlChannel) -> None:
    while channel.is_open:
        if isinstance(_listen(worker, channel), Quit):
            worker.hurry()


def _listen(
    worker: Worker, channel: ControlChannel, timeout: float | None = None
) -> Drain | Quit | None:
    """The next order; None if none came within so many seconds, or the supervisor is gone.

    Of two that come together the stricter one counts.
    """
    try:
        readable, _, _ = select.select([channel], [], [], timeout)
        if not channel.is_whole():
            _end_cut_off(worker)
        messages = channel.receive() if readable else []
    except (UnreadableMessageError, OSError, ValueError):
        _end_cut_off(worker)
    for message in messages:
        if isinstance(message, Died):
            _announce_death(worker.broker, message)
    orders = [message for message in messages if isinstance(message, (Drain, Quit))]
    return min(orders, key=_time_left, default=None)


def _time_left(order: Drain | Quit) -> float:
    if isinstance(order, Quit):
        return -1
    return math.inf if order.grace is None else order.grace


def _announce_death(broker: Broker, message: Died) -> None:
    # In another thread: a hook of the app must not delay orders.
    details = {
        "worker_id": message.worker_id,
        "exit_code": message.exit_code,
        "job_ids": message.jobs,
    }
    arguments = ("process_death",)
    threading.Thread(
        target=broker.emit_after,
        args=arguments,
        kwargs=details,
        name="taskq-death",
        daemon=True,
    ).start()
