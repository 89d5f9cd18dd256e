"""What a run notes down: ``progress()`` and ``log()`` of ``current_job``."""

import math
import sys
import threading
import time
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import pytest

from flask_taskq import current_job
from flask_taskq import Message
from flask_taskq import Status
from flask_taskq.jobs.record import LEVELS
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Progress
from flask_taskq.jobs.record_limits import KEPT_LOG_LINES
from flask_taskq.jobs.record_limits import LINE_TEXT
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_broker
from tests.support.apps import once
from tests.support.apps import run_of


@pytest.fixture
def run(clock):
    run = run_of(Message("default", "add", (), {}, {}), attempt=2)
    run.now = clock.now
    return run


@pytest.fixture
def line(clock):
    return Line(make_broker(clock))


# Taking


def test_a_run_that_tells_nothing_has_no_notes(run):
    """Most jobs do not, and pay nothing."""
    assert run.unreported is None


def test_the_last_progress_is_taken(run, clock):
    """With the time at which it was, and as numbers of one kind."""
    run.progress(1, 10)
    run.progress(5, 10, "half of it")
    clock.advance(300)

    assert run.unreported.take() == (Progress(5.0, 10.0, "half of it", clock.now()), ())


def test_what_was_taken_is_not_new_any_more(run):
    """Nothing is stored twice."""
    run.progress(5)
    run.log("one")
    run.unreported.take()

    assert run.unreported.take() is None


def test_the_same_progress_again_is_new(run, clock):
    """The job is alive: the time at which it said so is another one."""
    run.progress(5)
    run.unreported.take()
    clock.advance(1_000)
    run.progress(5)

    assert run.unreported.take().progress.updated_at == clock.now()


def test_lines_are_taken_with_their_time_and_run(run, clock):
    """In order; the progress is another matter."""
    began = clock.now()
    run.log("one")
    clock.advance(10)
    run.log("two", "error")

    assert run.unreported.take() == (
        None,
        (LogLine(began, "info", "one", 2), LogLine(began + 10, "error", "two", 2)),
    )


def test_only_the_last_hundred_lines_wait_to_be_taken(run):
    """A job that logs in a loop does not fill the memory."""
    for number in range(KEPT_LOG_LINES + 5):
        run.log(str(number))

    logs = run.unreported.take().logs
    assert [item.text for item in logs] == [str(n) for n in range(5, KEPT_LOG_LINES + 5)]


def test_a_long_line_does_not_wait_whole(run):
    """What is kept of it is a little more than what is stored, to show that it was cut."""
    run.log("x" * 1_000_000)

    [logged] = run.unreported.take().logs
    assert len(logged.text) == LINE_TEXT + 1


def test_a_run_without_a_clock_has_the_machines(monkeypatch):
    """A run can be made without one."""
    run = run_of(Message("default", "add", (), {}, {}))
    run.log("one")

    [logged] = run.unreported.take().logs
    assert abs(logged.at - time.time() * 1000) < 60_000


def test_no_line_is_lost_or_taken_twice_while_another_thread_writes(run):
    """The worker takes while the job writes, and neither waits."""
    written, taken = 20_000, []
    wrote = threading.Event()
    room = threading.Semaphore(KEPT_LOG_LINES)

    def write():
        for number in range(written):
            room.acquire()
            run.log(str(number))
            run.progress(number)
        wrote.set()

    def take():
        news = run.unreported and run.unreported.take()
        if news is not None:
            taken.extend(item.text for item in news.logs)
            if news.logs:
                room.release(len(news.logs))
        return news

    # Threads take turns so often that they meet inside of everything.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=write)
        thread.start()
        progress = []
        while not wrote.is_set():
            news = take()
            if news is not None and news.progress is not None:
                progress.append(news.progress.current)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    take()

    assert progress == sorted(progress)
    assert taken == [str(number) for number in range(written)]


# What is refused


@pytest.mark.parametrize("value", ["1", b"1", None, True, [], 1j, object()])
def test_progress_that_is_no_number_is_an_error(run, value):
    """It says which argument and what it was."""
    with pytest.raises(TypeError, match=f"current is a {type(value).__name__}; it is a num"):
        run.progress(value)
    if value is not None:
        with pytest.raises(TypeError, match=f"total is a {type(value).__name__}; it is a num"):
            run.progress(1, value)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, 10**400, 10**5000, Decimal("nan"), Decimal("inf")],
    ids=["nan", "inf", "-inf", "large", "larger", "decimal-nan", "decimal-inf"],
)
def test_progress_that_is_not_finite_is_an_error(run, value):
    """JSON has no word for it. No number is too long for the text of the error."""
    with pytest.raises(ValueError, match="current is"):
        run.progress(value)
    with pytest.raises(ValueError, match="total is"):
        run.progress(1, value)


def test_a_total_below_zero_is_an_error(run):
    """There is nothing to be done of which less than nothing is."""
    with pytest.raises(ValueError, match=r"total is -1.0; it is a finite number from 0"):
        run.progress(1, -1)


@pytest.mark.parametrize("value", [1, b"half", ["half"]])
def test_a_message_that_is_no_text_is_an_error(run, value):
    """It is for people."""
    with pytest.raises(TypeError, match=f"message is a {type(value).__name__}; it is a str"):
        run.progress(1, 2, value)


@pytest.mark.parametrize("value", [None, 1, b"text", ValueError("no")])
def test_a_line_that_is_no_text_is_an_error(run, value):
    """How it should look is for the actor to say."""
    with pytest.raises(TypeError, match=f"text is a {type(value).__name__}; it is a str"):
        run.log(value)


@pytest.mark.parametrize("level", ["warn", "INFO", 20, None, ["info"]])
def test_a_line_of_no_known_level_is_an_error(run, level):
    """Who shows the lines knows which there are."""
    with pytest.raises(ValueError, match="it is one of debug, info, warning, error, critical"):
        run.log("text", level)


def test_what_was_refused_leaves_no_trace(run):
    """What was told before stands."""
    run.progress(5)
    with pytest.raises(ValueError):
        run.progress(math.nan)

    assert run.unreported.take().progress.current == 5


@pytest.mark.parametrize("value", [5, 5.0, Fraction(5), Decimal(5), -5])
def test_numbers_of_all_kinds_are_progress(run, value):
    """NumPy's are of such a kind, too."""
    run.progress(value, abs(value))

    progress = run.unreported.take().progress
    assert (type(progress.current), type(progress.total)) == (float, float)
    assert (progress.current, progress.total) == (value, abs(value))


# Of a job


@pytest.mark.needs("CurrentJob")
def test_a_job_that_ends_has_told_what_it_noted(line, clock):
    """The record has it together with the outcome."""

    @declare(line.broker)
    def load():
        current_job.log("begun")
        current_job.progress(3, 4, "three of four")

    record = line.run(load.send())

    assert record.status is Status.SUCCEEDED
    assert record.progress == Progress(3.0, 4.0, "three of four", clock.now())
    assert record.logs == (LogLine(clock.now(), "info", "begun", 1),)


@pytest.mark.needs("CurrentJob", "Retries")
@pytest.mark.parametrize("max_retries", [0, 1])
def test_a_job_that_fails_has_told_what_it_noted(line, max_retries):
    """Whether or not it runs again."""

    @declare(line.broker, max_retries=max_retries)
    def load():
        current_job.log("begun")
        current_job.progress(3, 4)
        raise ValueError("no")

    record = line.run(load.send())

    assert record.status in (Status.FAILED, Status.SCHEDULED)
    assert (record.progress.current, record.logs[0].text) == (3.0, "begun")


@pytest.mark.needs("CurrentJob", "Retries")
def test_the_log_of_a_job_goes_over_all_of_its_runs(line):
    """Each line knows its run."""

    @declare(line.broker, min_backoff=0)
    def load():
        current_job.log("begun")
        assert current_job.attempt == 2

    job = load.send()
    line.run(job)
    record = line.run(job)

    assert record.status is Status.SUCCEEDED
    assert [(item.text, item.attempt) for item in record.logs] == [("begun", 1), ("begun", 2)]


@pytest.mark.needs("CurrentJob")
def test_a_coroutine_notes_for_its_job(line):
    """As a function does."""

    @declare(line.broker)
    async def load():
        current_job.progress(1)

    assert line.run(load.send()).progress.current == 1.0


@pytest.mark.needs("CurrentJob")
def test_an_actor_that_tells_wrongly_fails(line):
    """It is its own error, with a text that says what to change."""

    @declare(line.broker, **once())
    def load():
        current_job.progress("50 %")

    record = line.run(load.send())

    assert (record.status, record.error.type) == (Status.FAILED, "TypeError")
    assert record.error.message == "progress(): current is a str; it is a number"


@pytest.mark.needs("CurrentJob")
def test_half_a_surrogate_pair_does_not_cost_the_job_its_outcome(line):
    """As in the name of a file that is not UTF-8."""

    @declare(line.broker)
    def load():
        current_job.progress(1, 2, "bad \udce9")
        current_job.log("bad \ud800")

    record = line.run(load.send())

    assert record.status is Status.SUCCEEDED
    assert (record.progress.message, record.logs[0].text) == ("bad \\udce9", "bad \\ud800")


def test_outside_of_a_job_there_is_nothing_to_tell():
    """The error is the one of every use."""
    with pytest.raises(RuntimeError, match="Working outside of a job"):
        current_job.progress(1)
    with pytest.raises(RuntimeError, match="Working outside of a job"):
        current_job.log("one")


@pytest.mark.needs("CurrentJob")
def test_progress_costs_less_than_twenty_calls_of_a_function(line):
    """By the way that actors take: a million of them take less than a second on a machine
    that calls an empty function twenty million times a second."""
    taken, empty = [], []

    def do_nothing(current, total, message):
        pass

    def measure(job):
        began = time.thread_time()
        for number in range(20_000):
            job.progress(number, 1_000_000, "rows")
        return time.thread_time() - began

    @declare(line.broker)
    def load():
        for _ in range(10):
            empty.append(measure(SimpleNamespace(progress=do_nothing)))
            taken.append(measure(current_job))

    assert line.run(load.send()).progress.current == 19_999.0
    assert min(taken) < 20 * min(empty)


def test_the_levels_are_those_of_logging():
    """In the order in which they grow worse."""
    assert LEVELS == ("debug", "info", "warning", "error", "critical")
