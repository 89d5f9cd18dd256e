"""Keys of another release on one server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flask_taskq.engines.redis import layout
from flask_taskq.engines.redis.versions import LAYOUT
from flask_taskq.errors import ConfigurationError
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.bench import retry
from tests.support.redis_server import RedisServer

#: What the records of a newer release have besides: a field of the head, as it puts it there.
EXTRA = json.dumps({"colour": "blue"}).encode()
KEY = "{taskq}:layout"


def test_the_keys_say_which_version_they_have(server: RedisServer, bench: Bench) -> None:
    """And since which one a release can work with them."""
    bench.send()
    with server.connect() as client:
        assert client.get(KEY) == f"{LAYOUT}:{LAYOUT}".encode()


@pytest.mark.parametrize("word", ["99:98", "3:3", "x", "1:", "1:y"])
def test_keys_that_this_release_cannot_work_with_are_refused(
    server: RedisServer, new_bench: Callable[..., Bench], word: str
) -> None:
    """On every connection, and nothing is changed; the text says what to do."""
    with server.connect() as client:
        client.set(KEY, word)
        bench = new_bench(server.url)
        for call in (bench.engine.connect, bench.send):
            with pytest.raises(ConfigurationError, match="install a newer one, or choose"):
                call()
        assert client.keys() == [KEY.encode()]


def test_newer_keys_that_older_releases_may_use_are_used(
    server: RedisServer, new_bench: Callable[..., Bench]
) -> None:
    """They stay as they are."""
    with server.connect() as client:
        client.set(KEY, f"99:{LAYOUT}")
        bench = new_bench(server.url)
        bench.settle(done(bench.running()))
        assert client.get(KEY) == f"99:{LAYOUT}".encode()


@pytest.mark.parametrize("early", ["waiting", "over:result", "holders"])
def test_keys_from_before_the_first_release_are_refused(
    server: RedisServer, new_bench: Callable[..., Bench], early: str
) -> None:
    """Nothing in them is read, or changed."""
    with server.connect() as client:
        client.hset("{taskq}:" + early, "a", "b")
        with pytest.raises(ConfigurationError, match="before its first release"):
            new_bench(server.url).engine.connect()
        assert client.keys() == [b"{taskq}:" + early.encode()]


@pytest.fixture
def newer(server: RedisServer, new_bench: Callable[..., Bench], monkeypatch: Any) -> Bench:
    """A sender of a newer release, whose records have a field more."""
    bench = new_bench(server.url)
    enqueue = bench.engine.enqueue

    def with_extra(envelope: Any, now: int) -> bytes:
        made = original(envelope, now)
        head = list(layout._SENT.unpack_from(made))
        head[-1] = len(EXTRA)
        return layout._SENT.pack(*head) + made[layout._SENT.size :] + EXTRA

    original = layout.to_bytes

    def enqueue_with_extra(envelopes: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(layout, "to_bytes", with_extra)
            return enqueue(envelopes)

    bench.engine.enqueue = enqueue_with_extra  # type: ignore[method-assign]
    return bench


@pytest.mark.parametrize("end", [done, failed])
def test_what_a_newer_release_has_added_to_a_record_is_kept(
    server: RedisServer, bench: Bench, newer: Bench, end: Callable[..., Any]
) -> None:
    """The older one runs the job, retries included, and leaves it alone."""
    job_id = newer.send()
    own = bench.send(id="f" * 32)
    bench.settle(*(retry(one, at=bench.clock.now()) for one in bench.worker().fetch(2, 0)))

    again = bench.worker().fetch(2, 0)

    assert {delivery.id for delivery in again} == {job_id, own}
    assert None not in bench.settle(*map(end, again)).outcomes
    assert bench.record(job_id).attempt == newer.record(own).attempt == 2
    with server.connect() as client:
        assert client.get("{taskq}:j:" + job_id).endswith(EXTRA)
        assert not client.get("{taskq}:j:" + own).endswith(EXTRA)


def rewrite_format(server: RedisServer, job_id: str, number: int) -> None:
    with server.connect() as client:
        client.setrange("{taskq}:j:" + job_id, 16, bytes([number]))


def test_a_record_that_only_a_newer_release_reads_waits_for_it(
    server: RedisServer, bench: Bench
) -> None:
    """It is neither lost nor failed, nor does it keep others waiting."""
    unknown, known = bench.send(), bench.send()
    rewrite_format(server, unknown, layout.FORMAT + 1)

    for _ in range(3):
        assert bench.claim_all() in ([known], [])
    rewrite_format(server, unknown, layout.FORMAT)  # a worker of that release is there
    with server.connect() as client:
        # The time until it is looked at again is over.
        for member in client.zrange("{taskq}:due", 0, -1):
            client.zadd("{taskq}:due", {member: 0})

    assert bench.claim_all() == [unknown]
    assert bench.status(unknown) is Status.RUNNING


def test_a_job_that_was_set_aside_for_a_newer_release_ends_as_that_lets_it(
    server: RedisServer, bench: Bench
) -> None:
    """What an older one has noted down for later does not bring it back."""
    job_id = bench.send()
    rewrite_format(server, job_id, layout.FORMAT + 1)
    assert bench.claim_all() == []
    rewrite_format(server, job_id, layout.FORMAT)
    bench.engine.jobs.cancel(job_id)
    with server.connect() as client:
        [member] = client.zrange("{taskq}:due", 0, -1)
        client.zadd("{taskq}:due", {member: 0})

    assert bench.claim_all() == []
    assert bench.status(job_id) is Status.CANCELLED
