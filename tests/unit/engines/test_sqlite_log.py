"""What the SQLite engine owes when its log, or the log's index, is taken away."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines.sqlite import SQLiteEngine
from flask_taskq.errors import ConnectionClosed
from flask_taskq.errors import ConnectionFailed
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.moment import Moment

#: Another process: it does what its lines of input say, and tells when that is done.
OTHER = """
import os, sys
from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.engines.sqlite import SQLiteEngine

engine = SQLiteEngine(Settings(broker_url="sqlite:///" + sys.argv[1]), Clock())
for line in sys.stdin:
    order, *ids = line.split()
    try:
        if order == "send":
            engine.enqueue([
                Envelope(id=one, queue="default", actor="add", priority=0, message=b"{}",
                         created_at=1)
                for one in ids
            ])
            print("sent", flush=True)
        elif order == "look":
            found = [engine.jobs.get(one) for one in ids]
            print(*[one.id for one in found if one], flush=True)
        elif order == "copy":
            import shutil
            shutil.copy(sys.argv[1], sys.argv[1] + ".copy")
            print("copied", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
engine.close()
"""

WAYS = pytest.mark.parametrize("gone", [["-wal"], ["-shm"], ["-wal", "-shm"]], ids=str)


class Other:
    """Another process that has the file open, or may open it."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: str) -> list[str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()

    def send(self, *ids: str) -> None:
        assert self.ask("send", *ids) == ["sent"]

    def kill(self) -> None:
        """End it as a power cut would: it closes nothing."""
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        """End it in order: it closes the file."""
        self._process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def new_bench(path: Path, **options: Any) -> Bench:
    settings = Settings(broker_url=f"sqlite:///{path}", broker_options=options)
    return Bench(SQLiteEngine(settings, Clock()))


@pytest.fixture
def bench(path: Path) -> Iterator[Bench]:
    """An engine of this process."""
    bench = new_bench(path)
    yield bench
    bench.close()


@pytest.fixture
def new_other(path: Path) -> Iterator[Callable[[], Other]]:
    """Starts other processes."""
    others: list[Other] = []

    def start() -> Other:
        others.append(Other(path))
        return others[-1]

    yield start
    for other in others:
        other.kill()


def take_away(path: Path, gone: list[str]) -> None:
    for suffix in gone:
        os.unlink(f"{path}{suffix}")


def stored(path: Path) -> set[str]:
    """The jobs that a process finds that has just come."""
    with closing(sqlite3.connect(path)) as connection:
        [[opinion]] = connection.execute("PRAGMA integrity_check").fetchall()
        assert opinion == "ok"
        return {job_id for (job_id,) in connection.execute("SELECT id FROM taskq_job")}


def ids(letters: str) -> list[str]:
    return [letter * 32 for letter in letters]


# --- Sending ---


@WAYS
@pytest.mark.parametrize("end", ["killed", "closed"])
def test_what_is_sent_after_the_log_is_taken_away_is_there(
    path: Path, new_other: Callable[[], Other], gone: list[str], end: str
) -> None:
    """Others see it at once, and it stays when the sender ends, in order or not."""
    sender, other = new_other(), new_other()
    sender.send(*ids("a"))
    sender.ask("look", *ids("a"))  # with a second connection, which it keeps
    take_away(path, gone)
    for one in ids("bcdef"):
        sender.send(one)

    assert other.ask("look", *ids("abcdef")) == ids("abcdef")
    other.send(*ids("9"))
    sender.kill() if end == "killed" else sender.close()
    other.close()

    assert stored(path) == set(ids("abcdef9"))


@WAYS
def test_a_process_that_does_nothing_yet_loses_nothing(
    path: Path, new_other: Callable[[], Other], gone: list[str]
) -> None:
    """It ends after the log was taken away, without having noticed before."""
    sender = new_other()
    sender.send(*ids("ab"))
    take_away(path, gone)
    sender.close()

    assert stored(path) == set(ids("ab"))


@WAYS
def test_every_process_notices_that_the_log_is_taken_away(
    path: Path, new_other: Callable[[], Other], gone: list[str]
) -> None:
    """Each of them goes on with what the first of them has saved."""
    others = [new_other() for _ in range(3)]
    for other, letter in zip(others, "abc", strict=True):
        other.send(*ids(letter))
    take_away(path, gone)
    for other, letter in zip(others, "def", strict=True):
        other.send(*ids(letter))
    for other in others:
        assert other.ask("look", *ids("abcdef")) == ids("abcdef")
        other.kill()

    assert stored(path) == set(ids("abcdef"))


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_a_copy_of_the_file_costs_no_jobs(
    path: Path, new_other: Callable[[], Other], whose: str
) -> None:
    """By the process that has it open, whose locks are gone then: who closes the file
    next is not to take himself for the last one, and remove the log."""
    sender, other = new_other(), new_other()
    sender.send(*ids("a"))
    (sender if whose == "own" else other).ask("copy")
    other.ask("look", *ids("a"))
    other.close()
    assert Path(f"{path}-wal").exists()
    sender.send(*ids("bcd"))
    sender.kill()

    assert stored(path) == set(ids("abcd"))


@WAYS
def test_a_job_that_is_stored_while_the_log_is_taken_away_is_there(
    path: Path, bench: Bench, new_other: Callable[[], Other], gone: list[str]
) -> None:
    """In the midst of its transaction, when nobody else has come yet."""
    bench.send(id="a" * 32)
    bench.send(id="b" * 32, actor=Moment("add", lambda: take_away(path, gone)))

    assert new_other().ask("look", *ids("ab")) == ids("ab")


@pytest.mark.parametrize("end", [Other.kill, Other.close, lambda other: None])
def test_a_job_that_is_stored_while_others_get_another_log_is_stored_again(
    path: Path,
    bench: Bench,
    new_other: Callable[[], Other],
    end: Callable[[Other], None],
) -> None:
    """Among them is one who has stored something there, and lives, was killed, or has ended."""
    bench.send(id="a" * 32)
    bench.engine.close()  # all of it is in the file
    other = new_other()

    def replace() -> None:
        take_away(path, ["-wal", "-shm"])
        other.send(*ids("c"))
        end(other)

    bench.send(id="b" * 32, actor=Moment("add", replace))

    assert new_other().ask("look", *ids("abc")) == ids("abc")
    bench.close()
    other.kill()
    assert stored(path) == set(ids("abc"))


def test_a_group_of_callers_is_stored_again(
    path: Path, bench: Bench, new_other: Callable[[], Other]
) -> None:
    """Threads that send at the same time, while the log is taken away again and again."""
    take_turns = 10
    other = new_other()
    other.send("0" * 32)

    def send(number: int) -> list[str]:
        sent = []
        for turn in range(take_turns):
            moment = Moment("add", lambda: take_away(path, ["-wal"]))
            sent.append(bench.send(actor=moment if number == 0 and turn % 3 == 0 else "add"))
        return sent

    with ThreadPoolExecutor(8) as pool:
        sent = {one for some in pool.map(send, range(8)) for one in some}

    assert len(sent) == 8 * take_turns
    assert set(other.ask("look", *sent)) == sent


# --- Workers and readers ---


@WAYS
def test_a_worker_goes_on_when_the_log_is_taken_away(
    path: Path, bench: Bench, new_other: Callable[[], Other], gone: list[str]
) -> None:
    """It settles what it holds, and fetches what others send then."""
    consumer = bench.worker()
    first = bench.send(id="a" * 32)
    [delivery] = consumer.fetch(1, 0)
    take_away(path, gone)
    assert None not in consumer.settle_if_held([done(delivery)]).outcomes
    other = new_other()
    other.send(*ids("b"))

    assert [one.id for one in consumer.fetch(1, 60_000)] == ids("b")
    assert bench.status(first) is Status.SUCCEEDED
    other.kill()
    bench.close()
    assert stored(path) == set(ids("ab"))


def test_a_settlement_into_a_log_that_others_do_not_read_is_refused(
    path: Path, bench: Bench, new_other: Callable[[], Other]
) -> None:
    """Nobody may believe that it was stored, and it can be made again."""
    consumer = bench.worker()
    bench.send(id="a" * 32)
    [delivery] = consumer.fetch(1, 0)
    # So that all of it is in the file.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def replace() -> None:
        take_away(path, ["-wal", "-shm"])
        new_other().send(*ids("b"))

    with pytest.raises(ConnectionClosed, match="was deleted or replaced while it was in use"):
        consumer.settle_if_held([done(delivery, Moment(b"1", replace))])  # type: ignore[arg-type]

    assert bench.status("a" * 32) is Status.RUNNING
    assert None not in consumer.settle_if_held([done(delivery)]).outcomes
    assert bench.status("a" * 32) is Status.SUCCEEDED
    assert bench.status("b" * 32) is Status.QUEUED


def test_a_claim_that_was_stored_after_all_arrives(path: Path, bench: Bench) -> None:
    """The log that was written is the one that others read, but by another index. Were the
    claim forgotten, nobody would run the job while its worker lives."""
    bench.send(id="a" * 32)
    bench.engine.workers.register("w1")
    # It is asked for once to see whether there are jobs, and then to claim them.
    queue: Any = Moment("default", lambda: take_away(path, ["-shm"]), number=2)
    with closing(bench.engine.consumer([queue], "w1")) as consumer:
        with pytest.raises(ConnectionClosed, match="not seen by others"):
            consumer.fetch(1, 0)

        [delivery] = consumer.fetch(1, 0)

        assert delivery.id == "a" * 32
        assert None not in consumer.settle_if_held([done(delivery)]).outcomes
    assert bench.status("a" * 32) is Status.SUCCEEDED


@WAYS
def test_a_reader_sees_what_others_store_after_the_log_is_taken_away(
    path: Path, bench: Bench, new_other: Callable[[], Other], gone: list[str]
) -> None:
    """It does not go on with what was there before."""
    bench.send(id="a" * 32)
    bench.engine.close()
    assert bench.status("a" * 32) is Status.QUEUED
    take_away(path, gone)
    new_other().send(*ids("b"))

    assert bench.status("b" * 32) is Status.QUEUED


def test_who_comes_waits_until_a_log_is_saved(
    path: Path, new_other: Callable[[], Other]
) -> None:
    """Who has still got it saves it with its next call. What is written before would spoil
    the file."""
    holding = new_other()
    holding.send(*ids("a"))
    take_away(path, ["-wal"])
    with pytest.raises(ConnectionFailed, match="while a process had it open"):
        new_bench(path, busy_timeout=50).engine.connect()

    other = new_other()
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(other.send, *ids("b"))
        assert holding.ask("look", *ids("a")) == ids("a")
        sending.result(60)

    assert other.ask("look", *ids("ab")) == ids("ab")


# --- The end ---


def test_the_last_to_close_the_file_leaves_no_log(
    path: Path, bench: Bench, new_other: Callable[[], Other]
) -> None:
    """All that there is, is in one file then; copied or not."""
    other = new_other()
    other.send(*ids("a"))
    bench.send(id="b" * 32)
    bench.worker().fetch(1, 0)
    shutil.copy(path, f"{path}.copy")
    bench.close()
    bench.engine.close()
    other.close()

    assert not Path(f"{path}-wal").exists()
    assert not Path(f"{path}-shm").exists()
    assert stored(path) == set(ids("ab"))


def test_who_closes_the_file_leaves_the_log_of_others_alone(
    path: Path, new_other: Callable[[], Other]
) -> None:
    """Also where they were killed, and it looks like the last one."""
    idle, other = new_other(), new_other()
    idle.send(*ids("a"))
    idle.ask("look", *ids("a"))
    take_away(path, ["-wal", "-shm"])
    other.ask("look", *ids("a"))
    other.send(*ids("b"))
    other.kill()
    idle.close()

    assert "b" * 32 in stored(path)


def test_a_file_behind_a_link_keeps_its_log_beside_it(
    tmp_path: Path, new_other: Callable[[], Other]
) -> None:
    """SQLite follows the link, and so does the code that guards the log."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "real").touch()
    os.symlink(tmp_path / "data" / "real", tmp_path / "jobs")
    sender = new_other()
    sender.send(*ids("a"))
    take_away(tmp_path / "data" / "real", ["-wal"])
    sender.send(*ids("b"))
    sender.kill()

    assert stored(tmp_path / "jobs") == set(ids("ab"))
