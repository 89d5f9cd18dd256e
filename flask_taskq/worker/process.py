"""A child of the supervisor, once its app is built: a worker, and an ear for orders."""

from __future__ import annotations

import faulthandler
import logging
import select
import signal
import threading
from typing import Final

from ..broker import Broker
from .link import ChildSpec
from .link import Drain
from .link import Link
from .link import Quit
from .link import Ready
from .slots import SlotTable
from .worker import Worker

logger = logging.getLogger(__name__)

#: How often the worker is looked after, in seconds.
_TICK: Final = 1.0


def ignore_signals() -> None:
    """Leave SIGINT and SIGTERM to the supervisor, which gives its orders over the link.

    A terminal sends SIGINT to the whole process group: it must count once. A handler that
    does nothing is used because, unlike SIG_IGN, programs that a job starts do not inherit
    it. The supervisor starts its children with both signals blocked, so that none can hit
    before this was called.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def serve(broker: Broker, link: Link, spec: ChildSpec) -> None:
    """Run jobs until the supervisor says otherwise or is gone."""
    worker = Worker(
        broker,
        queues=spec.queues,
        worker_threads=spec.threads,
        worker_id=spec.worker_id,
        slots=SlotTable(spec.threads, spec.slots),
        isolated=spec.isolated,
    )
    grace = broker.settings.grace if spec.grace is None else spec.grace
    worker.start()
    link.send(Ready())
    order = _wait_for_order(worker, link, spec.isolated) or Drain(grace)
    # Orders and leases go on while the worker stops.
    threading.Thread(target=_keep_listening, args=(worker, link), daemon=True).start()
    if isinstance(order, Quit):
        worker.hurry()
        worker.stop(0)
    else:
        worker.stop(order.grace)


def _wait_for_order(worker: Worker, link: Link, isolated: bool) -> Drain | Quit | None:
    """Look after the worker until there is an order, or nobody is left to give one."""
    while link.is_open:
        for word in _listen(worker, link):
            if isinstance(word, (Drain, Quit)):
                return word
        if isolated and worker.is_idle:
            return None
    logger.warning("the supervisor is gone: worker %s finishes its jobs and ends", worker.id)
    return None


def _keep_listening(worker: Worker, link: Link) -> None:
    while True:
        if Quit() in _listen(worker, link):
            worker.hurry()


def _listen(worker: Worker, link: Link) -> list[object]:
    tick = min(_TICK, worker.broker.settings.lease / 10_000)
    readable, _, _ = select.select([link] if link.is_open else [], [], [], tick)
    try:
        worker.tick()
    except Exception:
        logger.exception("worker %s cannot be looked after", worker.id)
    return list(link.receive()) if readable else []
