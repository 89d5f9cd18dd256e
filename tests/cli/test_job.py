"""``flask taskq job``, on jobs in memory. ``tests/processes`` has those that really run."""

import io
import json
import os
import pty
import sys
from contextlib import suppress

import pytest

from flask_taskq import TaskQ
from flask_taskq.cli import taskq as group
from flask_taskq.cli.bar import Bar
from flask_taskq.cli.bar import make_bar
from flask_taskq.cli.bar import RichBar
from flask_taskq.cli.listing import printable
from flask_taskq.engines.base import Report
from flask_taskq.errors import ConfigurationError
from flask_taskq.errors import ConnectionFailed
from flask_taskq.http.resource import MAX_INLINE_RESULT
from flask_taskq.record import JobRecord
from flask_taskq.record import LogLine
from flask_taskq.record import Progress
from flask_taskq.record import Status
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import once

UNKNOWN = "0" * 32


@pytest.fixture
def taskq():
    taskq = TaskQ()
    taskq.actor(lambda a, b: a + b, actor_name="add")
    taskq.actor(lambda size: "x" * size, actor_name="large")

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


def test_a_failed_job_is_listed_with_its_error(run, send, app):
    """Its type and its text; that is no error of the command."""
    job_id = send("fail", "two\nlines")
    drain(app)
    result = run(job_id)
    assert (result.exit_code, listed(result)["status"]) == (0, "failed")
    assert listed(result)["error"] == "LookupError: two\nlines"


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
    ("error", "code"), [(ConnectionFailed("it is away"), 3), (ConfigurationError("no"), 2)]
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
    drain(app)
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
    with Bar(terminal) as bar:
        bar.show(record(progress=Progress(3.0, None, "rows of a table", 1)))
        bar.show(record(Status.SUCCEEDED))
    first, second, last, end = terminal.getvalue().split("\r")[1:]
    assert first.rstrip() == "running    3  rows of a table"
    assert second.rstrip() == "succeeded"
    assert len(first) == len(second) and not last.strip() and end == ""


def test_the_same_state_is_told_once():
    """A log of a wait that takes hours stays short."""
    stream = io.StringIO()
    with Bar(stream) as bar:
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
    with make_bar(terminal) as bar:
        assert isinstance(bar, RichBar)
        bar.show(record(progress=Progress(2.0, 4.0, "[red]rows[/]", 1)))
    text = read()
    assert "━" in text and "50%" in text and "[red]rows[/]" in text


def test_a_terminal_has_a_bar_without_rich(screen, monkeypatch):
    """Only a plainer one."""
    terminal, read = screen
    monkeypatch.setitem(sys.modules, "rich", None)
    with make_bar(terminal) as bar:
        assert isinstance(bar, Bar)
        bar.show(record(progress=Progress(2.0, 4.0, "rows", 1)))
    assert f"[{'#' * 15}{'.' * 15}]  50%  (2 of 4)  rows" in read()


def test_what_is_no_terminal_has_no_bar_of_rich():
    """A file would be full of its escape sequences."""
    assert isinstance(make_bar(io.StringIO()), Bar)


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
