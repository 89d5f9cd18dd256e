"""The workers, their leases, and the reclaim of jobs from workers that have died."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from collections.abc import Sequence
from typing import Final

import msgspec

from ...errors import BrokerConnectionError
from ...errors import BrokerError
from ...jobs.lifecycle import lose
from ...loggers import get_logger
from ..base import Workers
from ..listing import WorkerInfo
from .layout import to_counts
from .lease_ages import LeaseAges
from .script_source import BEGIN_RECLAIM
from .script_source import DESCRIBE_WORKER
from .script_source import LIST_WORKERS
from .script_source import RECLAIM
from .script_source import RENEW
from .store import read_renewal
from .store import Store

logger = get_logger(__name__)

#: The number of jobs of a dead worker that one script call reclaims.
_AT_ONCE: Final = 100

#: How long other processes leave an unfinished reclaim to the process that began it, in
#: milliseconds.
_PATIENCE: Final = 10_000

_info_decoder = msgspec.json.Decoder(WorkerInfo)


class RedisWorkers(Workers):
    """The workers. They are in a hash, with the value of each worker's last lease renewal."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun = LeaseAges(store.clock)

    def register(self, worker: str, info: WorkerInfo | None = None) -> None:
        self._renew([worker], begins=True)
        if info is not None:
            said = _begin_with_host(info.host) + msgspec.json.encode(info)
            self._store.run(DESCRIBE_WORKER, worker, said)

    def renew(self, workers: Sequence[str]) -> list[str]:
        return self._renew(workers, begins=False) if workers else []

    def _renew(self, workers: Sequence[str], begins: bool) -> list[str]:
        lease = self._store.settings.lease
        until = self._store.now() + lease
        reply = self._store.run(RENEW, lease, until, int(begins), *workers)
        renewal, unknown = reply[0], [worker.decode() for worker in reply[1:]]
        for worker in workers:
            if worker not in unknown:
                self._store.renewals.note(worker, renewal)
        return unknown

    def count(self) -> int:
        return len(self._alive())

    def _alive(self) -> set[str]:
        # This uses the server's clock, because the caller has not observed the workers for the
        # length of a lease.
        now = self._store.now()
        reply = self._store.command("HGETALL", f"{self._store.prefix}leases")
        renewals = zip(map(bytes.decode, reply[::2]), reply[1::2], strict=True)
        return {worker for worker, renewal in renewals if read_renewal(renewal).until > now}

    def all(self) -> dict[str, WorkerInfo]:
        infos = self._read_infos(b"")
        return {worker: infos.get(worker, WorkerInfo()) for worker in sorted(self._alive())}

    def list_on(self, host: str) -> dict[str, WorkerInfo]:
        return self._read_infos(_begin_with_host(host))

    def _read_infos(self, beginning: bytes) -> dict[str, WorkerInfo]:
        found = self._store.run(LIST_WORKERS, beginning)
        return {
            worker.decode(): _to_info(data)
            for worker, data in zip(found[::2], found[1::2], strict=True)
        }

    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> list[str]:
        name = f"{secrets.token_hex(8)}:"
        if not self._store.run(BEGIN_RECLAIM, self._store.now(), name, worker, b""):
            return []
        running = frozenset(started or ())
        return self._take_all(name + worker, running, started is None, cause)

    def reap(self) -> list[str]:
        name = f"{secrets.token_hex(8)}:"
        over = self._find_lapsed()
        reaped = []
        if over:
            reply = self._store.run(BEGIN_RECLAIM, self._store.now(), name, *over)
            reaped = [worker.decode() for worker in reply]
        # Reclaims that other processes began and did not finish, because they died, are
        # finished too.
        for lost in [*(name + worker for worker in reaped), *self._find_left()]:
            try:
                self._take_all(lost, (), True, "its lease ran out")
            except BrokerConnectionError:
                raise
            except BrokerError as error:
                # A failure with the jobs of one worker must not prevent the reclaim of others.
                logger.error("the jobs of a lost worker (%s) cannot be taken: %s", lost, error)
        return sorted(reaped)

    def _find_lapsed(self) -> list[str | bytes]:
        """Return the worker and the value of its last renewal, for each worker whose lease has
        expired."""
        store = self._store
        reply = store.command("HGETALL", f"{store.prefix}leases")
        known = dict(zip(map(bytes.decode, reply[::2]), reply[1::2], strict=True))
        over: list[str | bytes] = []
        for worker, renewal in known.items():
            if store.renewals.note(worker, renewal) >= read_renewal(renewal).lease:
                over += (worker, renewal)
        store.renewals.forget_others(known)
        return over

    def _find_left(self) -> list[str]:
        """Return the names of the reclaims that were begun some time ago and are not
        finished."""
        store = self._store
        names = [
            name.decode() for name in store.command("ZRANGE", f"{store.prefix}lost", 0, -1)
        ]
        left = [name for name in names if self._begun.note(name, b"begun") >= _PATIENCE]
        self._begun.forget_others(names)
        return left

    def _take_all(
        self, lost: str, started: Collection[str], vanished: bool, cause: str
    ) -> list[str]:
        reply = self._store.command("HGETALL", f"{self._store.prefix}lost:{lost}")
        held = [
            (job_id.decode(), token)
            for job_id, token in zip(reply[::2], reply[1::2], strict=True)
        ]
        failed: list[str] = []
        for at in range(0, len(held), _AT_ONCE):
            some = held[at : at + _AT_ONCE]
            failed += self._take(lost, some, started, vanished, cause)
        return failed

    def _take(
        self,
        lost: str,
        held: Sequence[tuple[str, bytes]],
        started: Collection[str],
        vanished: bool,
        cause: str,
    ) -> list[str]:
        store = self._store
        now = store.now()
        keys = [f"{store.prefix}j:{job_id}" for job_id, _ in held]
        arguments: list[bytes | str] = []
        for (job_id, token), raw in zip(held, store.command("MGET", *keys), strict=True):
            counts = to_counts(raw)
            if counts is None:
                # The script skips this job.
                logger.error("the record of job %s is gone or damaged: it is lost", job_id)
            crashes, suspects = counts or (0, 0)
            change = lose(
                crashes=crashes,
                suspects=suspects,
                crashed=job_id in started,
                vanished=vanished,
                cause=cause,
                max_crashes=store.settings.max_crashes,
                now=now,
            )
            arguments += (job_id, token, store.packer.pack(change))
        failed = store.run(RECLAIM, now, lost, *arguments)
        return [job_id.decode() for job_id in failed]


def _begin_with_host(host: str) -> bytes:
    # The host is encoded as JSON, which contains no line break.
    return msgspec.json.encode(host) + b"\n"


def _to_info(data: bytes) -> WorkerInfo:
    try:
        return _info_decoder.decode(data)
    except msgspec.DecodeError:
        return WorkerInfo()  # it is damaged, or from another release
