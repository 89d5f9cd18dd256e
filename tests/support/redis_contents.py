"""Whether all that the redis engine keeps fits together."""

from __future__ import annotations

from collections import Counter

import redis

from flask_taskq.engines.redis.claims import with_claim
from flask_taskq.engines.redis.layout import to_record
from flask_taskq.jobs.record import FINAL
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import Status

PREFIX = "{taskq}:"
WAITING = (Status.QUEUED, Status.SCHEDULED)


def verify_redis(url: str) -> None:
    """Each job is where its status says, and nowhere else, and the counts are right."""
    with redis.Redis.from_url(url) as client:
        keys = [key.decode().removeprefix(PREFIX) for key in client.scan_iter(count=1000)]
        raws: dict[str, bytes] = {}
        for key in keys:
            kind, _, name = key.partition(":")
            if kind == "j":
                raw = client.get(PREFIX + key)
                assert raw is not None
                raws[name] = raw
                is_final = to_record(name, raw).status.is_final
                assert (client.ttl(PREFIX + key) > 0) is is_final, f"the time of job {name}"
        held = find_held(client, keys)
        records = {
            name: to_record(name, with_claim(raw, *held[name]) if name in held else raw)
            for name, raw in raws.items()
        }
        places = find_places(client, keys, raws)
        waiting = {status: client.hgetall(PREFIX + status.value) for status in WAITING}
        holders = client.hgetall(PREFIX + "unique")
        ended = {status: client.lrange(f"{PREFIX}over:{status}", 0, -1) for status in FINAL}
    found = Counter(job_id for jobs in places.values() for job_id in jobs)
    for name, record in records.items():
        assert found[name] == (0 if record.status.is_final else 1), f"{record} in {places}"
    for place, jobs in places.items():
        for job_id in jobs:
            if job_id in records and not records[job_id].status.is_final:
                assert fits(place, records[job_id]), f"{records[job_id]} is in {place}"
    for status, counts in waiting.items():
        queues = Counter(one.queue for one in records.values() if one.status is status)
        assert {queue.decode(): int(count) for queue, count in counts.items()} == queues
    for key, holder in holders.items():
        record = records[holder.decode()]
        assert not record.status.is_final and record.unique_key == key.decode(), f"key {key!r}"
    for status, ids in ended.items():
        there = Counter(job_id.decode() for job_id in ids)
        for name, record in records.items():
            assert there[name] == (record.status is status), f"{record} in over:{status}"


def find_held(client: redis.Redis, keys: list[str]) -> dict[str, tuple[str, bytes]]:
    """Of each job that is held its worker and its token."""
    held = {}
    for key in keys:
        kind, _, rest = key.partition(":")
        if kind in ("own", "lost") and rest:
            worker = rest if kind == "own" else rest.partition(":")[2]
            for name, token in client.hgetall(PREFIX + key).items():
                held[name.decode()] = (worker, token)
    return held


def find_places(
    client: redis.Redis, keys: list[str], raws: dict[str, bytes]
) -> dict[str, list[str]]:
    """What is in each list, set and hash of jobs. What stands in a list counts only as long as
    the record has that place."""
    places: dict[str, list[bytes]] = {}
    for key in keys:
        match key.partition(":")[0]:
            case "ready":
                places[key] = [
                    entry[8:]
                    for entry in client.lrange(PREFIX + key, 0, -1)
                    if raws.get(entry[8:].decode(), b"")[8:16] == entry[:8]
                ]
            case "back" | "alone":
                places[key] = client.zrange(PREFIX + key, 0, -1)
            case "due":
                places[key] = [name[12:] for name in client.zrange(PREFIX + key, 0, -1)]
            case "own" | "lost" if ":" in key:
                places[key] = client.hkeys(PREFIX + key)
    return {key: [job_id.decode() for job_id in jobs] for key, jobs in places.items()}


def fits(place: str, record: JobRecord) -> bool:
    """Whether a job that is not over belongs there."""
    kind, _, rest = place.partition(":")
    match kind:
        case "ready" | "back":
            there = f"{record.queue}:{record.priority}"
            return record.status is Status.QUEUED and rest == there
        case "alone":
            return record.status is Status.QUEUED and rest == record.queue
        case "due":
            return record.status is Status.SCHEDULED
        case _:
            return record.status is Status.RUNNING and rest.endswith(str(record.worker))
