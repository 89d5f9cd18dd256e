"""The threads of one worker: one fetches, one settles, the others run jobs.

Only the fetching and the settling thread touch the engine. Runner threads take deliveries
from a queue and put settlements on another, and so an exception that is raised into a job
cannot hit a connection. What a job itself asks of the engine, such as sending another job,
is done for it by the threads of ``relay.py``.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from queue import Empty
from queue import SimpleQueue
from typing import Any
from typing import Final

from ..broker import Broker
from ..engines.base import Delivery
from ..engines.base import Failed
from ..engines.base import GivenBack
from ..engines.base import Settlement
from ..errors import BrokerError
from ..errors import LeaseLost
from ..errors import Shutdown
from ..errors import TaskQError
from ..record import JobError
from .lease import Lease
from .prefetch import Prefetch
from .relay import EngineRelay
from .runner import emit_outcomes
from .runner import Runner
from .slots import SlotTable

logger = logging.getLogger(__name__)

#: How many settlements go into one call of the engine at most.
_MAX_BATCH: Final = 500

#: A settlement that cannot be stored so often, though the engine works, is given up, and the
#: job fails instead.
_MAX_ODDITIES: Final = 3

#: How long one waiting fetch lasts, in milliseconds. It is woken by new jobs.
_FETCH_TIMEOUT: Final = 30_000

#: Jobs that have waited here so long for a thread, in milliseconds, go back to the engine.
_HOARDING: Final = 1_000

#: How long jobs have to end, in milliseconds, once ``Shutdown`` was raised in them.
_INTERRUPT_TIME: Final = 1_000

#: How long the last settlements may take to store, in milliseconds ...
_FLUSH_TIME: Final = 2_000
#: ... and in a hurry, in seconds.
_HURRY: Final = 0.3

#: How long a fetcher waits, in seconds, before it looks again whether the lease is renewed.
_MISTRUST: Final = 0.1


def generate_worker_id() -> str:
    """A name that no other worker has or had, unlike a host's name with a process id."""
    return secrets.token_hex(8)


class Worker:
    """Runs the jobs of some queues in threads of this process.

    :param broker: of the app whose actors run.
    :param queues: names of the queues; None takes those of all declared actors.
    :param worker_threads: how many jobs run at the same time.
    :param worker_id: the name under which it is registered.
    :param slots: where its threads note what they run.
    :param isolated: run only the jobs that must run alone.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        queues: Iterable[str] | None = None,
        worker_threads: int = 8,
        worker_id: str | None = None,
        slots: SlotTable | None = None,
        isolated: bool = False,
    ) -> None:
        self.broker = broker
        self.queues = sorted(broker.get_declared_queues() if queues is None else queues)
        self.worker_threads = worker_threads
        self.id = worker_id or generate_worker_id()
        self.slots = slots or SlotTable(worker_threads)
        self._clock = broker.clock
        self._workers = broker.engine.workers
        self._lease = Lease(
            self._workers, self.id, broker.settings.lease, broker.clock, self.slots
        )
        self._consumer = broker.engine.consumer(self.queues, self.id, isolated=isolated)
        self._runners = [Runner(broker) for _ in range(worker_threads)]
        self._call_engine = broker.call_engine
        self._relay = EngineRelay(self._call_engine, worker_threads)
        # Fetcher and settler -> runners -> settler; None ends a thread.
        self._deliveries: SimpleQueue[Delivery | None] = SimpleQueue()
        self._settlements: SimpleQueue[Settlement | None] = SimpleQueue()
        self._prefetch = Prefetch(worker_threads, broker.clock)
        # How often a settlement could not be stored though the engine works.
        self._odd: Counter[str] = Counter()
        self._hungry = threading.Event()
        self._stopping = threading.Event()
        self._hurrying = threading.Event()
        self._runners_left = worker_threads
        self._runners_ended = threading.Condition()
        self._fetcher = self._thread(self._fetch_until_stopped, "fetcher")
        self._settler = self._thread(self._settle_until_stopped, "settler")
        self._threads = [
            self._thread(self._run_until_stopped, f"runner-{slot}", slot)
            for slot in range(worker_threads)
        ]

    def _thread(self, target: Callable[..., None], name: str, *args: Any) -> threading.Thread:
        return threading.Thread(target=target, args=args, name=f"taskq-{name}", daemon=True)

    @property
    def is_idle(self) -> bool:
        """Whether it holds no job."""
        return not self._prefetch

    # Life

    @property
    def is_broken(self) -> bool:
        """Whether a thread that it cannot do without has died, of a defect."""
        threads = (self._fetcher, self._settler)
        return not self._stopping.is_set() and not all(one.is_alive() for one in threads)

    def start(self, announce: Callable[[], None] = lambda: None) -> None:
        """Register under a lease and start the threads.

        :param announce: called before the first job is fetched.
        """
        self.broker.emit_before("worker_boot", self)
        self._lease.begin()
        self.broker.call_engine = self._relay.call
        announce()
        for thread in (self._settler, *self._threads, self._fetcher):
            thread.start()
        self._hungry.set()
        self.broker.emit_after("worker_boot", self)

    def tick(self) -> None:
        """Keep what no single event keeps; call it about once a second.

        Renews a lease that nobody else renewed, and gives jobs back that wait here for
        threads which are busy with long ones.
        """
        if self._lease.is_neglected() and not self._lease.renew():
            self._recover_lease()
        if self._is_hoarding():
            self._give_back_unstarted()

    def stop_fetching(self) -> None:
        """Start nothing more, and give back what has not started."""
        self._stopping.set()
        self._hungry.set()
        self._consumer.interrupt()
        self._give_back_unstarted()

    def stop(self, grace: int) -> None:
        """Stop fetching, let running jobs finish, give the others back, and end.

        :param grace: how long running jobs may go on, in milliseconds. Then ``Shutdown``
            is raised in them and they are given back.
        """
        self.broker.emit_before("worker_shutdown", self)
        self.stop_fetching()
        for _ in self._threads:
            self._deliveries.put(None)
        if not self._wait_for_runners(grace):
            self._interrupt_runners()
        self._join(self._fetcher)
        self._give_back_unstarted()
        self._give_back_stuck()
        self._settlements.put(None)
        if self._join(self._settler):
            self._deregister()
            self._consumer.close()
        else:
            logger.error("worker %s: the last settlements cannot be stored", self.id)
            self.hurry()
        if self.broker.call_engine == self._relay.call:
            self.broker.call_engine = self._call_engine
        self._relay.close()
        self.broker.emit_after("worker_shutdown", self)

    def hurry(self) -> None:
        """Let a :meth:`stop` that is under way end without any more waiting."""
        self._hurrying.set()
        with self._runners_ended:
            self._runners_ended.notify_all()

    def _wait_for_runners(self, timeout: int) -> bool:
        with self._runners_ended:
            self._runners_ended.wait_for(
                lambda: self._runners_left == 0 or self._hurrying.is_set(), timeout / 1000
            )
            return self._runners_left == 0

    def _join(self, thread: threading.Thread) -> bool:
        """Wait for a thread that may be waiting for the engine, though not for long.

        :return: whether it has ended.
        """
        until = self._clock.monotonic() + _FLUSH_TIME
        while thread.is_alive() and self._clock.monotonic() < until:
            thread.join(_HURRY)
            if self._hurrying.is_set():
                break
        return not thread.is_alive()

    def _interrupt_runners(self) -> None:
        for runner in self._runners:
            runner.gate.raise_inside(Shutdown)
        self._wait_for_runners(_INTERRUPT_TIME)

    def _give_back_stuck(self) -> None:
        # Jobs that cannot be interrupted. Should one end well after all, its own
        # settlement comes too late and is refused.
        for job in self.slots.started():
            delivery = self._prefetch.get(job.job_id)
            if delivery is not None:
                self._settlements.put(GivenBack(delivery=delivery))

    def _deregister(self) -> None:
        try:
            self._workers.hand_back(self.id, (), "stopped")
        except TaskQError as error:
            logger.warning("worker %s could not be signed off: %s", self.id, error)

    # Lease

    def _recover_lease(self) -> None:
        # What this worker held may be somebody else's by now. Jobs that have started end as
        # they end, and if so, their settlements will be refused.
        logger.warning(
            "worker %s lost its lease: the %d jobs that it held may run elsewhere",
            self.id,
            len(self._prefetch),
        )
        self._give_back_unstarted()
        self._lease.begin()

    # Fetching

    def _fetch_until_stopped(self) -> None:
        self.broker.emit_after("consumer_thread_boot", threading.current_thread())
        backoff = _Backoff(self._stopping)
        while not self._stopping.is_set():
            self._hungry.wait()
            self._hungry.clear()
            while not self._stopping.is_set() and (limit := self._prefetch.ask()):
                if not self._lease.is_trusted():
                    # What was fetched now would not be started.
                    self._prefetch.answered()
                    self._stopping.wait(_MISTRUST)
                    continue
                try:
                    self._accept(self._consumer.fetch(limit, _FETCH_TIMEOUT))
                    backoff.reset()
                except LeaseLost:
                    self._attempt(self._recover_lease, backoff)
                except Exception as error:
                    _log_failure("fetch", error)
                    backoff.wait()
                finally:
                    self._prefetch.answered()
        self.broker.emit_before("consumer_thread_shutdown", threading.current_thread())

    def _attempt(self, action: Callable[[], None], backoff: _Backoff) -> None:
        try:
            action()
        except Exception as error:
            _log_failure("register", error)
            backoff.wait()

    def _accept(self, deliveries: list[Delivery]) -> None:
        self._prefetch.take_in(deliveries)
        for delivery in deliveries:
            self._deliveries.put(delivery)

    def _is_hoarding(self) -> bool:
        if self._deliveries.empty():
            return False
        started = {job.job_id for job in self.slots.started()}
        return len(started) == self.worker_threads and self._prefetch.has_waited(
            _HOARDING, besides=started
        )

    def _give_back_unstarted(self) -> None:
        ends = 0
        try:
            while True:
                delivery = self._deliveries.get_nowait()
                if delivery is None:
                    ends += 1
                else:
                    self._settlements.put(GivenBack(delivery=delivery))
        except Empty:
            for _ in range(ends):
                self._deliveries.put(None)

    # Running

    def _run_until_stopped(self, slot: int) -> None:
        try:
            self.broker.emit_after("worker_thread_boot", threading.current_thread())
            self._relay.serve_this_thread()
            runner = self._runners[slot]
            while (delivery := self._deliveries.get()) is not None:
                self._settlements.put(self._run(slot, runner, delivery))
            self.broker.emit_before("worker_thread_shutdown", threading.current_thread())
        finally:
            with self._runners_ended:
                self._runners_left -= 1
                self._runners_ended.notify_all()

    def _run(self, slot: int, runner: Runner, delivery: Delivery) -> Settlement:
        if self._stopping.is_set() or not self._lease.is_trusted():
            return GivenBack(delivery=delivery)
        try:
            self.slots.start(slot, delivery.id, self._clock.monotonic())
            return runner.run(delivery)
        except BaseException as error:
            # A defect of this package must not cost a thread, nor lose the job.
            logger.exception("job %s could not be run", delivery.id)
            return _defective(delivery, error)
        finally:
            self.slots.end(slot)

    # Settling

    def _settle_until_stopped(self) -> None:
        backoff = _Backoff(self._hurrying)
        while True:
            batch, is_last = self._collect()
            while batch:
                batch = self._settle(batch, backoff)
                if self._hurrying.is_set():
                    break
            if is_last:
                return

    def _collect(self) -> tuple[list[Settlement], bool]:
        # While one call of the engine is in flight the next batch forms by itself.
        batch: list[Settlement] = []
        settlement = self._settlements.get()
        try:
            while settlement is not None:
                batch.append(settlement)
                if len(batch) == _MAX_BATCH:
                    return batch, False
                settlement = self._settlements.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _settle(self, batch: list[Settlement], backoff: _Backoff) -> list[Settlement]:
        """Settle a batch, and fetch with the same call.

        :return: what is to be tried again: no settlement is given up while the worker lives.
        """
        # Jobs that are given back have not been finished: they must not come again at once.
        finished = sum(not isinstance(one, GivenBack) for one in batch)
        limit = self._prefetch.ask_along(finished, len(batch))
        if self._stopping.is_set() or not self._lease.is_trusted():
            limit = 0
        emit_outcomes(self.broker, "before", batch)
        try:
            stale, deliveries = self._consumer.settle_if_held(batch, limit)
        except Exception as error:
            _log_failure("settle", error)
            backoff.wait()
            return batch if isinstance(error, BrokerError) else self._single_out(batch, error)
        backoff.reset()
        self._prefetch.let_go(settlement.delivery for settlement in batch)
        self._accept(deliveries)
        if self._prefetch.is_short():
            # Nothing more was ready: from here on the fetcher waits for it. Asked anew after
            # each settlement: a fetch that came back empty while one was in flight counted
            # jobs that were still held, and the fetcher may have gone to sleep over it.
            self._hungry.set()
        for delivery in stale:
            logger.warning(
                "job %s: the settlement came too late and was refused; the job had been"
                " taken from worker %s",
                delivery.id,
                self.id,
            )
        stored = [one for one in batch if one.delivery not in stale] if stale else batch
        emit_outcomes(self.broker, "after", stored)
        return []

    def _single_out(self, batch: list[Settlement], error: Exception) -> list[Settlement]:
        # It is not the engine that is out of order but one of these, which must not hold
        # up the others.
        if len(batch) > 1:
            backoff = _Backoff(self._hurrying)
            return [left for one in batch for left in self._settle([one], backoff)]
        delivery = batch[0].delivery
        self._odd[delivery.id] += 1
        if self._odd[delivery.id] < _MAX_ODDITIES:
            return batch
        del self._odd[delivery.id]
        return [_defective(delivery, error)]


def _defective(delivery: Delivery, error: BaseException) -> Failed:
    defect = JobError(type=type(error).__name__, message=str(error), code="internal")
    return Failed(delivery=delivery, error=defect)


def _log_failure(what: str, error: Exception) -> None:
    if isinstance(error, BrokerError):
        logger.error("cannot %s, will try again: %s", what, error)
    else:
        logger.error("cannot %s, will try again", what, exc_info=error)


class _Backoff:
    """Waits longer after each failure, up to a few seconds.

    :param stop: ends a wait at once.
    """

    _MIN: Final = 0.05
    _MAX: Final = 5.0

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._delay = self._MIN

    def wait(self) -> None:
        self._stop.wait(self._delay)
        self._delay = min(self._delay * 2, self._MAX)

    def reset(self) -> None:
        self._delay = self._MIN
