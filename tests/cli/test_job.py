"""``flask taskq job``, on jobs in memory. ``tests/processes`` has those that really run."""

import io
import json
import os
import pty
import re
import sys
from contextlib import suppress

import pytest

from flask_taskq import current_job
from flask_taskq import Message
from flask_taskq import TaskQ
from flask_taskq.cli import taskq as group
from flask_taskq.cli.job_text import printable
from flask_taskq.cli.progress_bar import make_progress_bar
from flask_taskq.cli.progress_bar import ProgressBar
from flask_taskq.cli.progress_bar import RichProgressBar
from flask_taskq.errors import ConfigurationError
from flask_taskq.errors import ConnectionFailed
from flask_taskq.errors import DecodeError
from flask_taskq.http.resource import MAX_INLINE_RESULT
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Progress
from flask_taskq.jobs.record import Status
from flask_taskq.testing import drain
from tests.support.apps import Line
from tests.support.apps import make_app
from tests.support.apps import once

UNKNOWN = "0" * 32


@pytest.fixture
def taskq():
    taskq = TaskQ()
    taskq.actor(lambda a, b: a + b, actor_name="add")
    taskq.actor(lambda size: "x" * size, actor_name="large")
    taskq.actor(lambda a, *more, **named: None, actor_name="take")

    @taskq.actor(**once())
    def fail(text="no such month"):
        raise LookupError(text)

    @taskq.actor
    def fail_at_first():
        raise LookupError("not yet")

    return taskq


@pytest.fixture
def app(taskq):
    return make_app(taskq, expose="")


@pytest.fixture
def send(app, taskq):
    def send(name, *args, **options):
        with app.app_context():
            actor = taskq.broker.get_actor(name)
            return actor.send_with_options(args=args, **options).id

    return send


@pytest.fixture
def run(app):
    def run(*args):
        return app.test_cli_runner().invoke(group, ["job", *args])

    return run


@pytest.fixture
def claim(app, taskq, send):
    """Makes a job that runs at a worker of the test's, and has told what is given."""

    def claim(progress=None, logs=()):
        job_id = send("add", 1, 2)
        engine = taskq.broker_for(app).engine
        engine.workers.register("w1")
        consumer = engine.consumer(["default"], "w1")
        [delivery] = consumer.fetch(1, 0)
        consumer.report_if_held([Report(delivery=delivery, progress=progress, logs=logs)])
        return job_id

    return claim


def listed(result):
    """The names and values of a listing; what has no name belongs to the one before."""
    rows, key = {}, ""
    for line in result.stdout.splitlines():
        name, value = line[:12].strip(), line[12:].strip()
        key = name or key
        rows[key] = f"{rows[key]}\n{value}" if key in rows else value
    return rows


# What is listed


@pytest.mark.needs("Retries")
def test_a_job_is_listed(run, send, app):
    """In two columns, and without what does not apply."""
    job_id = send("add", 1, 2)
    drain(app)
    result = run(job_id)
    rows = listed(result)
    assert result.exit_code == 0
    assert list(rows) == [
        "id",
        "actor",
        "arguments",
        "queue",
        "status",
        "attempt",
        "created",
        "started",
        "finished",
        "kept until",
        "worker",
        "result",
    ]
    assert (rows["id"], rows["actor"], rows["queue"]) == (job_id, "add", "default")
    assert (rows["status"], rows["attempt"], rows["result"]) == ("succeeded", "1 of 4", "3")
    assert rows["created"].endswith(" UTC")


def test_arguments_are_listed_by_name(run, app, taskq):
    """As JSON, with those that have no name by their number, and what is long in part."""
    with app.app_context():
        actor = taskq.broker.get_actor("take")
        kwargs = {"month": "März", "rows": list(range(1000))}
        job = actor.send_with_options(args=(1, [True], None), kwargs=kwargs, delay=60_000)
    rows = listed(run(job.id))
    first = rows["arguments"].splitlines()
    assert first[:4] == ["a = 1", "args[1] = [true]", "args[2] = null", 'month = "März"']
    assert first[4].startswith("rows = [0,1,2,") and first[4].endswith("…")
    assert len(first[4]) < 250
    assert rows["options"] == "delay = 60000"


def test_arguments_of_an_unknown_actor_are_listed_by_number(run, app, taskq):
    """What the app does not know may still have been sent."""
    message = Message("default", "elsewhere", (1, "x"), {"c": 2}, {})
    with app.app_context():
        job_id = taskq.broker.enqueue(message).id
    assert listed(run(job_id))["arguments"] == 'args[0] = 1\nargs[1] = "x"\nc = 2'


def test_a_damaged_message_is_listed_as_such(run, app, taskq):
    """Everything else is shown all the same."""
    with app.app_context():
        line = Line(taskq.broker)
        job_id = line.put(Message("default", "add", (1, 2), {}, {}), message=b"{nothing")
    rows = listed(run(job_id))
    assert rows["arguments"].startswith("cannot be read: not a message")
    assert rows["status"] == "queued"


def test_a_failed_job_is_listed_with_its_error(run, send, app):
    """Its type and its text, and where it was raised; that is no error of the command."""
    job_id = send("fail", "two\nlines")
    drain(app, raise_failures=False)
    result = run(job_id)
    rows = listed(result)
    assert (result.exit_code, rows["status"]) == (0, "failed")
    assert rows["error"] == "LookupError: two\nlines"
    assert rows["traceback"].startswith("Traceback (most recent call last):")
    assert "raise LookupError(text)" in rows["traceback"]
    number, _, attempt = rows["attempts"].partition("  ")
    assert number == "1" and attempt.endswith(" UTC  LookupError: two")


def test_of_a_long_traceback_the_end_is_listed(run, send, app):
    """There it says what was raised."""
    job_id = send("fail", "x" * 10_000 + "the end")
    drain(app, raise_failures=False)
    traceback = listed(run(job_id))["traceback"]
    assert len(traceback) == 2_000
    assert traceback.startswith("…") and traceback.endswith("the end")


@pytest.mark.needs("Retries")
def test_each_attempt_is_listed_with_its_error(run, app, taskq):
    """In their order; only the last one has its traceback there."""

    @taskq.actor(min_backoff=0, max_backoff=0, max_retries=2)
    def fail_again():
        raise LookupError(f"in attempt {current_job.attempt}")

    with app.app_context():
        job_id = fail_again.send().id
    for _ in range(3):
        drain(app, raise_failures=False)
    rows = listed(run(job_id))
    assert [line.split("  ")[0::2] for line in rows["attempts"].splitlines()] == [
        [str(number), f"LookupError: in attempt {number}"] for number in (1, 2, 3)
    ]
    assert rows["traceback"].count("Traceback") == 1


# Why it waits


def test_a_queued_job_says_what_it_waits_for(run, send):
    """For a worker, and none is alive."""
    assert listed(run(send("add", 1, 2)))["waits"].splitlines() == [
        "for a worker that serves the queue 'default'",
        "no worker is alive",
    ]


def test_where_a_worker_is_alive_nobody_says_otherwise(run, send, app, taskq):
    """Which queues it serves is not known."""
    taskq.broker_for(app).engine.workers.register("w1")
    assert listed(run(send("add", 1, 2)))["waits"] == (
        "for a worker that serves the queue 'default'"
    )


def test_a_job_in_a_queue_that_nobody_has_says_so(run, app, taskq):
    """As after a slip of the pen; the app that shows it is not the one that has sent it."""
    other = TaskQ()
    other.actor(lambda a, b: a + b, actor_name="add", queue_name="defaults")
    engine = taskq.broker_for(app).engine
    with make_app(other).app_context():
        other.broker.engine = engine
        job_id = other.broker.get_actor("add").send(1, 2).id
    assert listed(run(job_id))["waits"].splitlines()[-1] == (
        "no actor of the app has the queue 'defaults', so that no worker serves it unless its"
        " --queues names it; did you mean 'default'?"
    )


def test_a_delayed_job_says_until_when_it_waits(run, send):
    """Even with all workers at work."""
    rows = listed(run(send("add", 1, 2, delay=60_000)))
    assert rows["waits"].splitlines()[0] == f"is not to run before {rows['not before']}"


def test_a_job_that_was_given_back_says_when_and_why(run, app, taskq):
    """The word for programs is there, too."""
    message = Message("default", "elsewhere", (), {}, {})
    with app.app_context():
        job_id = taskq.broker.enqueue(message).id
        Line(taskq.broker).run_next()
    rows = listed(run(job_id))
    first, *_, last = rows["waits"].splitlines()
    assert re.fullmatch(
        r"was released by a worker at [-0-9]+ [:0-9]+ UTC: that worker does not know its"
        r" actor \(unknown_actor\)",
        first,
    )
    assert last == "the app has no actor 'elsewhere'"


def test_a_job_that_does_not_wait_says_nothing_of_it(run, claim):
    """A running one has its worker."""
    assert "waits" not in listed(run(claim()))


def test_modules_that_only_a_worker_imports_are_known(tmp_path, monkeypatch, taskq):
    """Their actors name arguments, and their queues are the app's. One that cannot be
    imported is no reason to show nothing."""
    monkeypatch.syspath_prepend(str(tmp_path))
    app = make_app(taskq, actors=["late_jobs", "no_such_module"])
    app.extensions["of_the_test"] = taskq
    (tmp_path / "late_jobs.py").write_text(
        "from flask import current_app\n"
        "taskq = current_app.extensions['of_the_test']\n"
        "@taskq.actor(queue_name='late')\n"
        "def ship(number): ...\n"
    )
    with app.app_context():
        job_id = taskq.broker.enqueue(Message("late", "ship", (7,), {}, {})).id
    rows = listed(app.test_cli_runner().invoke(group, ["job", job_id]))
    assert rows["arguments"] == "number = 7"
    assert "no actor of the app" not in rows["waits"]


@pytest.mark.needs("Retries")
def test_a_job_between_two_attempts_is_listed_as_retrying(run, send, app):
    """As over HTTP, with the time of the next one."""
    job_id = send("fail_at_first")
    drain(app)
    rows = listed(run(job_id))
    assert (rows["status"], rows["attempt"]) == ("retrying", "1 of 4")
    assert rows["not before"].endswith(" UTC")


def test_a_running_job_is_listed_with_what_it_tells(run, claim):
    """Its worker, its progress, and the last ten lines of its log."""
    logs = [LogLine(0, "warning", f"line {n}", 1) for n in range(12)]
    rows = listed(run(claim(Progress(2.0, 4.0, "rows", 1), logs)))
    assert (rows["status"], rows["worker"]) == ("running", "w1")
    assert rows["progress"] == "50%  (2 of 4)  rows"
    assert rows["log"].splitlines() == [
        f"1970-01-01 00:00:00 UTC  warning   line {n}" for n in range(2, 12)
    ]


def test_a_long_result_is_listed_in_part(run, send, app):
    """A terminal is no place for a megabyte."""
    job_id = send("large", 100_000)
    drain(app)
    assert len(listed(run(job_id))["result"]) == 2_000


# --json


def test_the_json_is_the_resource_of_http(run, send, app, taskq):
    """With the path to it, and with every member, whatever TASKQ_EXPOSE keeps back."""
    job_id = send("add", 1, 2)
    drain(app)
    app.config["TASKQ_EXPOSE"] = ""
    shown = app.test_client().get(f"/jobs/{job_id}").json
    result = run(job_id, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert shown["result"] is None and shown["actor"] is None
    assert (found["result"], found["actor"], found["queue"]) == (3, "add", "default")
    opened = {"actor", "queue", "result", "links"}
    assert list(found) == list(shown)
    assert {name for name in found if found[name] != shown[name]} == opened


def test_the_json_has_even_a_large_result(run, send, app):
    """HTTP would give its address instead."""
    job_id = send("large", MAX_INLINE_RESULT + 1)
    drain(app)
    found = json.loads(run(job_id, "--json").stdout)
    assert found["result"] == "x" * (MAX_INLINE_RESULT + 1)
    assert found["result_url"] is None


def test_an_app_without_the_routes_has_the_json_without_paths(taskq):
    """There is nothing that they could lead to."""
    app = make_app(taskq, jobs_url_prefix=None)
    with app.app_context():
        job_id = taskq.broker.get_actor("add").send(1, 2).id
    result = app.test_cli_runner().invoke(group, ["job", job_id, "--json"])
    found = json.loads(result.stdout)
    assert (found["self"], found["links"]) == (None, {})


# What cannot be found


@pytest.mark.parametrize("option", [[], ["--json"], ["--wait"], ["--cancel"]])
def test_an_unknown_job_is_an_error(run, option):
    """With the id, and nothing on standard output."""
    result = run(UNKNOWN, *option)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"no job has the id '{UNKNOWN}'" in result.output
    assert "in memory are known only to the process that sent them" in result.output


@pytest.mark.parametrize("job_id", ["17", "", UNKNOWN + "0", "G" * 32, f"{UNKNOWN}\n"])
def test_what_is_no_id_is_an_error(run, job_id):
    """Of its own, which says what an id is."""
    result = run(job_id)
    assert result.exit_code == 1
    assert f"{job_id!r} is no job's id: those are 32 hex digits" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionFailed("it is away"), 3),
        (ConfigurationError("no"), 2),
        (DecodeError("the stored record is damaged"), 1),
    ],
)
def test_an_engine_out_of_reach_has_the_exit_code_that_the_worker_has(
    app, run, taskq, monkeypatch, error, code
):
    """Its error is the message, without a traceback."""

    def get(job_id):
        raise error

    monkeypatch.setattr(taskq.broker_for(app).engine.jobs, "get", get)
    result = run(UNKNOWN)
    assert (result.exit_code, result.output) == (code, f"Error: {error}\n")


def test_a_limit_without_a_wait_is_wrong_usage(run):
    """It would limit nothing."""
    result = run(UNKNOWN, "--timeout", "100")
    assert result.exit_code == 2
    assert "--wait" in result.output


# --cancel


def test_a_waiting_job_is_cancelled(run, send):
    """And listed as it is then. A second time changes nothing, and is no error."""
    job_id = send("add", 1, 2)
    for _ in range(2):
        result = run(job_id, "--cancel")
        assert (result.exit_code, listed(result)["status"]) == (0, "cancelled")


def test_a_running_job_is_asked_to_stop(run, claim):
    """Which is all that can be done."""
    result = run(claim(), "--cancel")
    assert result.exit_code == 0
    assert listed(result)["status"] == "running, asked to stop"


def test_a_job_that_has_ended_cannot_be_cancelled(run, send, app):
    """It is listed, and the exit code tells."""
    job_id = send("add", 1, 2)
    drain(app)
    result = run(job_id, "--cancel")
    assert (result.exit_code, listed(result)["status"]) == (1, "succeeded")
    assert f"job {job_id} is succeeded already" in result.output


# --wait


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [("add", [], 0), ("fail", [], 1), ("add", ["--cancel"], 1), ("fail", ["--cancel"], 1)],
)
def test_a_wait_ends_as_the_job_has(run, send, app, name, options, code):
    """What was to be cancelled, and has ended otherwise, is no success."""
    job_id = send(name, *([1, 2] if name == "add" else []))
    drain(app, raise_failures=False)
    assert run(job_id, "--wait", *options).exit_code == code


def test_waiting_for_a_cancelled_job_is_a_success_for_who_cancels(run, send):
    """And a failure for who waits for its result."""
    job_id = send("add", 1, 2)
    assert run(job_id, "--wait", "--cancel").exit_code == 0
    assert run(job_id, "--wait").exit_code == 1


def test_a_wait_ends_with_its_time(run, claim):
    """The job goes on, and is listed as it is. What is no terminal gets lines."""
    job_id = claim(Progress(1.0, 4.0, "rows", 1))
    result = run(job_id, "--wait", "--timeout", "1")
    assert (result.exit_code, listed(result)["status"]) == (124, "running")
    assert result.stderr.splitlines() == [
        "running    [#######.......................]  25%  (1 of 4)  rows",
        f"Error: job {job_id} has not ended within 1 ms",
    ]


# The bar


def record(status=Status.RUNNING, progress=None):
    return JobRecord(
        id=UNKNOWN,
        queue="default",
        actor="add",
        priority=0,
        status=status,
        message=b"",
        created_at=0,
        updated_at=0,
        progress=progress,
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_one_line_that_is_gone_in_the_end():
    """Each text covers the one before, however long that was."""
    terminal = Terminal()
    with ProgressBar(terminal) as bar:
        bar.show(record(progress=Progress(3.0, None, "rows of a table", 1)))
        bar.show(record(Status.SUCCEEDED))
    first, second, last, end = terminal.getvalue().split("\r")[1:]
    assert first.rstrip() == "running    3  rows of a table"
    assert second.rstrip() == "succeeded"
    assert len(first) == len(second) and not last.strip() and end == ""


def test_the_same_state_is_told_once():
    """A log of a wait that takes hours stays short."""
    stream = io.StringIO()
    with ProgressBar(stream) as bar:
        for progress in (None, None, Progress(2.0, 0.0, None, 1), Progress(9.0, 4.0, None, 1)):
            bar.show(record(progress=progress))
    assert stream.getvalue().splitlines() == [
        "running",
        "running    2 of 0",
        f"running    [{'#' * 30}]  100%  (9 of 4)",
    ]


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 80 columns; a function that closes it, and returns what it was sent."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = open(theirs, "w")

    def read():
        terminal.close()
        text = b""
        # Linux says by an error that the other side is closed, other systems by no bytes.
        with suppress(OSError):
            while data := os.read(ours, 65_536):
                text += data
        return text.decode()

    yield terminal, read
    terminal.close()
    os.close(ours)


def test_a_terminal_has_a_bar_of_rich(screen):
    """Brackets in a text of the job are no markup."""
    terminal, read = screen
    with make_progress_bar(terminal) as bar:
        assert isinstance(bar, RichProgressBar)
        bar.show(record(progress=Progress(2.0, 4.0, "[red]rows[/]", 1)))
    text = read()
    assert "━" in text and "50%" in text and "[red]rows[/]" in text


def test_a_terminal_has_a_bar_without_rich(screen, monkeypatch):
    """Only a plainer one."""
    terminal, read = screen
    monkeypatch.setitem(sys.modules, "rich", None)
    with make_progress_bar(terminal) as bar:
        assert isinstance(bar, ProgressBar)
        bar.show(record(progress=Progress(2.0, 4.0, "rows", 1)))
    assert f"[{'#' * 15}{'.' * 15}]  50%  (2 of 4)  rows" in read()


def test_what_is_no_terminal_has_no_bar_of_rich():
    """A file would be full of its escape sequences."""
    assert isinstance(make_progress_bar(io.StringIO()), ProgressBar)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße 中文", "Grüße 中文"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb", r"a\r\nb"),
        ("\u202e\u2028\x9b", r"\u202e\u2028\x9b"),
        ("\udc80", r"\udc80"),
    ],
)
def test_what_cannot_be_printed_is_written_out(text, shown):
    """A terminal would act upon it."""
    assert printable(text) == shown
