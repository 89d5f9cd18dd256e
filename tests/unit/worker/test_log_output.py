"""How the lines of a worker's log come to be written."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from flask_taskq.worker.log_output import LineHandler

NET = 60.0


class SlowStream(io.StringIO):
    """Takes a write only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.begun = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)

    def write(self, text: str) -> int:
        self.begun.release()
        assert self.allowed.acquire(timeout=NET)
        self.writes.append(text)
        return len(text)


@pytest.fixture
def stream() -> SlowStream:
    return SlowStream()


@pytest.fixture
def logger(stream: SlowStream) -> Iterator[logging.Logger]:
    handler = LineHandler()
    handler.setStream(stream)
    logger = logging.Logger("of a test")
    logger.addHandler(handler)
    yield logger
    for _ in range(10):
        stream.allowed.release()
    handler.close()


def test_lines_that_come_during_a_write_are_written_at_once(logger, stream):
    logger.info("a")
    assert stream.begun.acquire(timeout=NET)
    for line in "bcd":
        logger.info(line)
    stream.allowed.release(2)
    assert stream.begun.acquire(timeout=NET)
    logger.handlers[0].flush()
    assert stream.writes == ["a\n", "b\nc\nd\n"]


def test_a_warning_waits_until_the_line_is_written(logger, stream):
    """A process that is about to die has said why."""
    warned = threading.Event()

    def warn() -> None:
        logger.warning("last words")
        warned.set()

    thread = threading.Thread(target=warn)
    thread.start()
    assert stream.begun.acquire(timeout=NET)
    assert not warned.is_set()
    stream.allowed.release()
    thread.join(NET)
    assert stream.writes == ["last words\n"]


def test_what_is_shown_is_what_it_was_when_it_was_logged(logger, stream):
    things = ["one"]
    logger.info("first")
    logger.info("%s", things)
    things.append("two")
    stream.allowed.release(2)
    logger.handlers[0].flush()
    assert "".join(stream.writes) == "first\n['one']\n"


def test_a_closed_handler_has_written_everything_and_writes_what_still_comes(logger, stream):
    stream.allowed.release(9)
    logger.info("a")
    logger.handlers[0].close()
    assert stream.writes == ["a\n"]
    logger.info("b")
    assert stream.writes == ["a\n", "b\n"]


def test_those_who_log_wait_when_too_many_lines_do(logger, stream, monkeypatch):
    """Nothing fills the memory while the reader of the log is stopped."""
    monkeypatch.setattr("flask_taskq.worker.log_output._MAX_WAITING", 2)
    logger.info("a")
    assert stream.begun.acquire(timeout=NET)
    logged = [threading.Event() for _ in range(3)]

    def log() -> None:
        for one in logged:
            logger.info("more")
            one.set()

    thread = threading.Thread(target=log)
    thread.start()
    assert logged[1].wait(NET)
    assert not logged[2].is_set()
    stream.allowed.release(9)
    thread.join(NET)
    assert logged[2].is_set()


def test_a_log_that_nobody_reads_any_more_harms_nobody(logger, stream):
    stream.close()
    stream.write = io.StringIO.write.__get__(stream)
    logger.error("to a closed stream")


def test_a_line_that_cannot_be_made_is_reported_and_harms_nobody(logger, stream, capsys):
    logger.info("%d", "no number")
    assert "--- Logging error ---" in capsys.readouterr().err
    assert stream.writes == []


@pytest.fixture
def dying(stream, logger):
    """A log whose thread dies in the midst of a write, while more lines wait."""
    logger.info("a")
    assert stream.begun.acquire(timeout=NET)
    logger.info("b")

    def write(text: str) -> int:
        stream.writes.append(text)
        return len(text)

    def fail(text: str) -> int:
        stream.write = write
        assert stream.allowed.acquire(timeout=NET)
        raise SystemExit

    # What is under way ends, and the next one is fatal.
    stream.write = fail
    stream.allowed.release(2)
    return logger.handlers[0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_whose_thread_has_died_says_so_and_is_written_all_the_same(dying, logger, stream):
    """In order, by the thread that logs, which waits for no other thread."""
    logger.warning("c")
    assert dying.is_broken
    logger.info("d")
    dying.flush()
    dying.close()
    logger.info("e")
    assert "".join(stream.writes) == "a\nb\nc\nd\ne\n"


FORKING = """
import logging, os, sys
from flask_taskq.worker.log_output import configure_logging
configure_logging("info", "text")
logging.info("before")
if (pid := os.fork()) == 0:
    logging.info("in the child")
    os._exit(0)
os.waitpid(pid, 0)
logging.info("after")
"""


def test_a_process_that_a_job_forks_writes_its_own_lines_before_it_ends():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        stderr=subprocess.PIPE,
        text=True,
        timeout=NET,
        check=True,
    )
    texts = [line.rpartition(": ")[2] for line in done.stderr.splitlines()]
    assert sorted(texts) == ["after", "before", "in the child"]
    assert texts[-1] == "after"
