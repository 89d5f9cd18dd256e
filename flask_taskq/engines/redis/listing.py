"""Lists and counts of jobs. The comment at the top of ``scripts/common.lua`` describes the
keys."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from ...errors import DecodeError
from ...jobs.record import JobRecord
from ...jobs.record import Lane
from ...jobs.record import Status
from .. import listing
from ..listing import Count
from ..listing import Entry
from ..listing import Filter
from ..listing import Key
from ..listing import name_queued
from ..listing import Section
from ..listing import wanted_final
from .claims import with_claim
from .layout import fits
from .layout import to_score
from .layout import to_turn
from .script_source import LIST_FINAL
from .script_source import LIST_QUEUED
from .store import Store

#: The sort key of a job in a list, the job's id, and the bytes of its record. The bytes are
#: None if the job does not match the filter.
Found = tuple[Key, str, bytes | None]

#: Finds up to a given number of jobs of a list that come after a sort key.
Find = Callable[[Key | None, int], list[Found]]


class Lists:
    """The lists of jobs that match a filter.

    :param decode: converts an id and bytes to a record.
    """

    def __init__(
        self, store: Store, wanted: Filter, decode: Callable[[str, bytes], JobRecord]
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._decode = decode
        self._queue = None if wanted.queue is None else wanted.queue.encode()
        self._actor = None if wanted.actor is None else wanted.actor.encode()

    def sections(self) -> Iterator[Section]:
        """Yield the sections of the list, in the order in which they are listed."""
        for name, find in self._waiting():
            yield Section(name, partial(self._read, find))
        if final := wanted_final(self._wanted):
            yield Section("final", partial(self._read_newest, final))

    def count(self) -> Count:
        """Count the matching jobs, among a bounded number of examined ones."""
        number = looked = 0
        finds = [find for _, find in self._waiting()]
        finds += [partial(self._find_ended, one) for one in wanted_final(self._wanted)]
        for find in finds:
            after = None
            while True:
                found = find(after, listing.READ_AT_ONCE)
                number += sum(raw is not None for _, _, raw in found)
                looked += len(found)
                if looked > listing.WINDOW:
                    return Count(min(number, listing.WINDOW), False)
                if len(found) < listing.READ_AT_ONCE:
                    break
                after = found[-1][0]
        return Count(number, True)

    def _waiting(self) -> Iterator[tuple[str, Find]]:
        wanted = self._wanted
        if wanted.has(Status.RUNNING):
            yield "running", self._find_running
        if wanted.has(Status.QUEUED):
            counts = self._store.command("HGETALL", f"{self._store.prefix}queued")
            queues = {queue.decode() for queue in counts[::2]}
            for queue in sorted(queues & {wanted.queue or queue for queue in queues}):
                yield name_queued(queue, Lane.ALONE), partial(self._find_alone, queue)
                yield name_queued(queue, Lane.ORDINARY), partial(self._find_ordinary, queue)
        if wanted.has(Status.SCHEDULED):
            yield "scheduled", self._find_scheduled

    # --- Reading a list ---

    def _find_running(self, after: Key | None, limit: int) -> list[Found]:
        prefix = self._store.prefix
        workers = self._store.command("HKEYS", f"{prefix}leases")
        lost = self._store.command("ZRANGE", f"{prefix}lost", 0, -1)
        keys = [f"{prefix}own:{worker.decode()}" for worker in workers]
        keys += [f"{prefix}lost:{name.decode()}" for name in lost]
        holders = [worker.decode() for worker in workers]
        holders += [name.decode().partition(":")[2] for name in lost]
        held: dict[bytes, tuple[str, bytes]] = {}
        for key, holder in zip(keys, holders, strict=True):
            reply = self._store.command("HGETALL", key)
            pairs = zip(reply[::2], reply[1::2], strict=True)
            held.update((job_id, (holder, token)) for job_id, token in pairs)
        keyed = [((one.decode(),), one) for one in sorted(held)]
        behind = [one for one in keyed if after is None or one[0] > after]
        return self._look(behind[:limit], Status.RUNNING, held=held)

    def _find_ordinary(self, queue: str, after: Key | None, limit: int) -> list[Found]:
        priority, place = (-1_000, -1) if after is None else after[:2]
        found = self._store.run(LIST_QUEUED, queue, priority, place, limit)
        keyed = [
            ((int(level), int(at), job_id.decode()), job_id)
            for job_id, level, at in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        return self._look(keyed, Status.QUEUED, queue)

    def _find_alone(self, queue: str, after: Key | None, limit: int) -> list[Found]:
        key = f"{self._store.prefix}alone:{queue}"
        start = "-inf" if after is None else f"({to_score(*after[:2])}"
        keyed = [
            ((*to_turn(score), job_id.decode()), job_id)
            for job_id, score in self._range(key, start, "+inf", limit)
        ]
        return self._look(keyed, Status.QUEUED, queue)

    def _find_scheduled(self, after: Key | None, limit: int) -> list[Found]:
        found: list[tuple[bytes, int]] = []
        for name in ("due", "due:alone"):
            key = f"{self._store.prefix}{name}"
            if after is not None:
                # Jobs with the same time that come after the key.
                behind = f"{after[1]:012x}{after[2]}".encode()
                same = self._range(key, after[0], after[0], None)
                found += [one for one in same if one[0] > behind]
            start = "-inf" if after is None else f"({after[0]}"
            found += self._range(key, start, "+inf", limit)
        keyed = [
            ((due, int(member[:12], 16), member[12:].decode()), member[12:])
            for member, due in found
        ]
        keyed.sort()
        return self._look(keyed[:limit], Status.SCHEDULED)

    def _find_ended(self, status: Status, after: Key | None, limit: int) -> list[Found]:
        # The positions in this list do not change, because the server counts the ids that were
        # removed from its head.
        place = "" if after is None else after[0]
        [[last, ids]] = self._store.run(LIST_FINAL, limit, status.value, place)
        return self._look([((last - n,), one) for n, one in enumerate(ids)], status)

    def _range(
        self, key: str, start: str | int, end: str | int, limit: int | None
    ) -> list[tuple[bytes, int]]:
        """Return members of a sorted set with their scores."""
        arguments: list[str | int] = ["ZRANGEBYSCORE", key, start, end, "WITHSCORES"]
        if limit is not None:
            arguments += ("LIMIT", 0, limit)
        reply = self._store.command(*arguments)
        scores = (int(float(score)) for score in reply[1::2])
        return list(zip(reply[::2], scores, strict=True))

    def _look(
        self,
        keyed: Sequence[tuple[Key, bytes]],
        status: Status,
        queue: str | None = None,
        held: Mapping[bytes, tuple[str, bytes]] | None = None,
    ) -> list[Found]:
        """Return jobs of a list, with the records of those that match the filter. A job that
        has left the list meanwhile does not match.

        :param held: the worker and the token of each job that a worker holds.
        """
        if not keyed:
            return []
        prefix, now = f"{self._store.prefix}j:".encode(), self._store.now()
        of_queue = self._queue if queue is None else queue.encode()
        raws = self._store.command("MGET", *(prefix + job_id for _, job_id in keyed))
        if held is not None:
            raws = [
                None if raw is None else with_claim(raw, *held[job_id])
                for (_, job_id), raw in zip(keyed, raws, strict=True)
            ]
        return [
            (
                key,
                job_id.decode(),
                raw if fits(raw, status, of_queue, self._actor, now) else None,
            )
            for (key, job_id), raw in zip(keyed, raws, strict=True)
        ]

    # --- Records ---

    def _read(self, find: Find, after: Key | None, limit: int) -> list[Entry]:
        return [
            (key, self._try_to_decode(job_id, raw)) for key, job_id, raw in find(after, limit)
        ]

    def _try_to_decode(self, job_id: str, raw: bytes | None) -> JobRecord | None:
        if raw is not None:
            with suppress(DecodeError):
                return self._decode(job_id, raw)
        return None

    def _read_newest(
        self, statuses: Sequence[Status], after: Key | None, limit: int
    ) -> list[Entry]:
        # The key of an entry has the position that was reached in each list with this entry.
        places = [None] * len(statuses) if after is None else [*after[:-1]]
        lists: list[deque[Entry]] = []
        for status, place in zip(statuses, places, strict=True):
            behind = None if place is None else (place,)
            find = partial(self._find_ended, status)
            lists.append(deque(self._read(find, behind, limit)))
        ends = [one[0][0][0] + 1 if one else 0 for one in lists]
        entries: list[Entry] = []
        while any(lists) and len(entries) < limit:
            left = [n for n, one in enumerate(lists) if one]
            n = max(left, key=lambda n: _ended(lists[n][0]))
            (place,), record = lists[n].popleft()
            ends[n] = place
            entries.append(((*ends, "" if record is None else record.id), record))
        return entries


def _ended(entry: Entry) -> float:
    # An entry that does not match comes first, so that it is skipped at once.
    return math.inf if entry[1] is None else entry[1].finished_at or 0
