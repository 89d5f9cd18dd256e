"""F9: the results store is away, and the broker is there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskq.engines.split import SplitEngine
from tests.support.redis_server import RedisServer

from .conftest import make_sqlite
from .event_log import NET
from .harness import job
from .harness import Rig
from .harness import Storage


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """The results store. What it has said that it stored is there when it was killed."""
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def storage(folder: Path, server: RedisServer) -> Storage:
    """Jobs in a file, whose results go to a server. It is waited for, for five seconds."""
    broker = make_sqlite(folder)
    return Storage(broker.url, broker.verify, broker.at_rest, server.url)


def test_a_results_store_that_is_away_costs_nothing(rig: Rig, server: RedisServer) -> None:
    """It stands still, then it is killed. Meanwhile jobs are sent, run, and can be read, and
    those of a process that dies run again in time. When it is back, all records go there."""
    engine = rig.engine
    assert isinstance(engine, SplitEngine)
    web = rig.start_web()
    worker = rig.start_worker(2)
    sent = web.send(*(job("work", 10) for _ in range(20)))
    rig.wait_until_done(sent)

    os.kill(server.pid, signal.SIGSTOP)
    while_still = web.send(job("work", 0))
    rig.wait_until_done(while_still)
    rig.let_pass(1.0)  # until the worker waits for the results store
    held = web.send(*(job("work", 300) for _ in range(8)))
    rig.wait_for("start", 8, jobs=held)
    rig.kill(rig.processes(worker)[0])
    while_still += held
    rig.wait_until_done(while_still)
    server.kill()
    while_dead = web.send(*(job("work", 10) for _ in range(20)))
    rig.wait_until_done(while_dead)
    assert all(engine.broker.jobs.get(one) for one in while_still + while_dead)
    server.start()

    everything = sent + while_still + while_dead
    until = time.monotonic() + NET
    while any(engine.broker.jobs.get(one) for one in everything):
        assert time.monotonic() < until
    rig.check()
    assert all(engine.results.jobs.get(one) for one in everything)
