"""The processes that hold jobs, and what becomes of the jobs of those that are gone."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Collection
from collections.abc import Sequence
from typing import Final

import msgspec

from ..base import Holder
from ..base import Workers
from ..judgement import judge
from ..judgement import Verdict
from .layout import CODES
from .layout import to_record
from .script import CONDEMN
from .script import HAS_ISOLATED
from .script import HOLDERS
from .script import INTRODUCE
from .script import RENEW
from .script import TAKE
from .store import Store

#: How many jobs are taken from who is gone in one step of the server.
_AT_ONCE: Final = 100

#: How long whoever began to take them is left to it, in milliseconds.
_PATIENCE: Final = 10_000

_VERDICT: Final = struct.Struct("<IBHHdI")

_processes_decoder = msgspec.json.Decoder(tuple[tuple[int, int], ...])


class RedisWorkers(Workers):
    """A sorted set of workers, by the end of their lease on the server's clock."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, worker: str, holder: Holder | None = None) -> None:
        until = self._store.now() + self._store.settings.lease
        self._store.run(RENEW, until, 1, worker)
        if holder is not None:
            processes = msgspec.json.encode(holder.processes)
            self._store.run(INTRODUCE, worker, f"{holder.host}\n".encode() + processes)

    def renew(self, workers: Sequence[str]) -> list[str]:
        if not workers:
            return []
        until = self._store.now() + self._store.settings.lease
        unknown = self._store.run(RENEW, until, 0, *workers)
        return [worker.decode() for worker in unknown]

    def count(self) -> int:
        # Those whose lease ends later than now.
        limits = (f"({self._store.now()}", "+inf")
        return int(self._store.command("ZCOUNT", f"{self._store.prefix}wk", *limits))

    def list_holders(self, host: str) -> dict[str, Holder]:
        found = self._store.run(HOLDERS, f"{host}\n")
        return {
            worker.decode(): Holder(host, _processes_decoder.decode(processes))
            for worker, processes in zip(found[::2], found[1::2], strict=True)
        }

    def hand_back(self, worker: str, started: Sequence[str] | None, cause: str) -> list[str]:
        now = self._store.now()
        name = f"{secrets.token_hex(8)}:"
        found = self._store.run(CONDEMN, now, name, now, worker)
        if not found:
            return []
        running = frozenset(started or ())
        return self._take_all(found[1].decode(), running, started is None, cause)

    def reap(self) -> list[str]:
        now = self._store.now()
        name = f"{secrets.token_hex(8)}:"
        found = self._store.run(CONDEMN, now, name, now - _PATIENCE)
        reaped = []
        for worker, lost in zip(found[::2], found[1::2], strict=True):
            self._take_all(lost.decode(), (), True, "its lease ran out")
            if worker:
                reaped.append(worker.decode())
        return sorted(reaped)

    def has_isolated(self, queues: Sequence[str]) -> bool:
        return bool(self._store.run(HAS_ISOLATED, self._store.now(), *queues))

    def _take_all(
        self, lost: str, started: Collection[str], vanished: bool, cause: str
    ) -> list[str]:
        reply = self._store.command("HGETALL", f"{self._store.prefix}lost:{lost}")
        held = [
            (job_id.decode(), int(claim))
            for job_id, claim in zip(reply[::2], reply[1::2], strict=True)
        ]
        failed: list[str] = []
        for at in range(0, len(held), _AT_ONCE):
            some = held[at : at + _AT_ONCE]
            failed += self._take(lost, some, started, vanished, cause)
        return failed

    def _take(
        self,
        lost: str,
        held: Sequence[tuple[str, int]],
        started: Collection[str],
        vanished: bool,
        cause: str,
    ) -> list[str]:
        store = self._store
        now = store.now()
        keys = [f"{store.prefix}j:{job_id}" for job_id, _ in held]
        arguments: list[bytes | str] = []
        for (job_id, claim), raw in zip(held, store.command("MGET", *keys), strict=True):
            record = None if raw is None else to_record(job_id, raw)
            verdict = judge(
                crashes=0 if record is None else record.crashes,
                suspects=0 if record is None else record.suspects,
                crashed=job_id in started,
                vanished=vanished,
                cause=cause,
                max_crashes=store.settings.max_crashes,
                now=now,
            )
            arguments += (job_id, _pack(claim, verdict))
        settings = store.settings
        failed = store.run(
            TAKE, now, lost, settings.result_ttl, settings.failed_ttl, *arguments
        )
        return [job_id.decode() for job_id in failed]


def _pack(claim: int, verdict: Verdict) -> bytes:
    error = b"" if verdict.error is None else msgspec.json.encode(verdict.error)
    due_at = -1 if verdict.due_at is None else verdict.due_at
    head = _VERDICT.pack(
        claim, CODES[verdict.status], verdict.crashes, verdict.suspects, due_at, len(error)
    )
    return head + error
