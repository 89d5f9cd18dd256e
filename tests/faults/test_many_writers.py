"""F33 and F34: many processes on one storage, with nothing wrong but their number."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from contextlib import ExitStack
from pathlib import Path

import pytest

from .harness import job
from .harness import Load
from .harness import Rig
from .harness import Scale
from .harness import Web
from .history import percentile


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_writers_do_not_meet_a_locked_database(rig: Rig, scale: Scale, folder: Path) -> None:
    """F33: eight processes write while another one holds on to an old state of the file.
    The log, which cannot begin anew meanwhile, is cut back when it lets go."""
    web = rig.start_web("--workers", "4", "--threads", "2")
    rig.start_worker(4)
    path = folder / "taskq.sqlite3"
    log = folder / "taskq.sqlite3-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, ExitStack() as load:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        for _ in range(8):
            load.enter_context(Load(web, lambda: [job("work", 0)], interval=0.02))
        rig.let_pass(scale.seconds)
        largest = log.stat().st_size
        reader.execute("ROLLBACK")
        rig.let_pass(scale.seconds)
        smallest = log.stat().st_size
    history = rig.check()
    assert {sent.outcome for sent in history.sent.values()} == {"sent"}
    slowest = percentile(
        [history.seconds(sent.at, sent.at + sent.took) for sent in history.sent.values()], 99
    )
    rig.figures.append(
        f"send() p99 {slowest * 1000:.0f} ms, the log {largest / 2**20:.1f} MiB while it is"
        f" held on to, and {smallest / 2**20:.1f} MiB afterwards"
    )
    assert slowest < 0.25
    assert smallest <= 64 * 2**20


def test_two_workers_run_every_job_once(rig: Rig, scale: Scale) -> None:
    """F34: they share a storage, and nobody runs what another one has."""
    web = rig.start_web()
    for _ in range(2):
        rig.start_worker(1)
    send_many(web, scale.jobs)
    history = rig.check()
    assert set(history.count_runs()) == {1}
    assert len(history.sent) == scale.jobs
    assert len({run.pid for [run] in history.runs.values()}) == 2


@pytest.mark.long
def test_two_workers_cost_each_other_less_than_four_tenths(rig: Rig, scale: Scale) -> None:
    """F34: they do at least six tenths of what one does alone, and lose nothing."""
    web = rig.start_web()
    rates = []
    for _ in range(2):
        rig.start_worker(1)
        began = time.monotonic()
        rig.wait_until_done(send_many(web, scale.jobs))
        rates.append(scale.jobs / (time.monotonic() - began))
    rig.figures.append(f"{rates[0]:.0f} jobs/s by one worker, {rates[1]:.0f} by two")
    history = rig.check()
    assert set(history.count_runs()) == {1}
    assert rates[1] >= 0.6 * rates[0]


def send_many(web: Web, count: int) -> list[str]:
    sent = []
    for _ in range(count // 100):
        sent += web.send(*(job("work", 0) for _ in range(100)))
    return sent
