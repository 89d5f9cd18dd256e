"""What a job says cannot move the cursor of a terminal, or pass for a line of its own."""

import io
import logging

import msgspec
import pytest

from flask_taskq.cli.job_text import list_job
from flask_taskq.cli.job_text import list_row
from flask_taskq.cli.progress_bar import ProgressBar
from flask_taskq.jobs.encoding import encode_message
from flask_taskq.jobs.message import Message
from flask_taskq.jobs.record import Attempt
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Progress
from flask_taskq.jobs.record import Status
from flask_taskq.loggers import get_logger
from flask_taskq.logs import TextFormatter

FORGERY = "\x1b[2J\x1b]0;title\x07\r\nstatus      succeeded\u202e\u2028\x9b\x85"

#: Fields of a record, by what somebody else may have written into them.
FORGED = {
    "actor": FORGERY,
    "queue": FORGERY,
    "worker": FORGERY,
    "status_reason": FORGERY,
    "result": FORGERY.encode(),
    "error": JobError(type=FORGERY, message=FORGERY, traceback=FORGERY),
    "message": encode_message(
        Message("default", "add", (FORGERY,), {FORGERY: FORGERY}, {FORGERY: FORGERY}), 10**6
    ),
    "attempts": (
        Attempt(
            number=1,
            started_at=None,
            ended_at=0,
            error=JobError(type=FORGERY, message=FORGERY),
        ),
    ),
    "progress": Progress(1.0, 2.0, FORGERY, 0),
    "logs": (LogLine(0, FORGERY, FORGERY, 1),),
}


def forge(field):
    record = JobRecord(
        id="0" * 32,
        queue="default",
        actor="add",
        priority=0,
        status=Status.FAILED,
        message=b"",
        created_at=0,
        updated_at=0,
    )
    return msgspec.structs.replace(record, **{field: FORGED[field]})


@pytest.mark.parametrize("field", FORGED)
def test_a_listing_has_one_status_and_no_control_character(field):
    """Whatever field of the record tries; its lines are indented."""
    lines = list_job(forge(field)).split("\n")
    assert r"\x1b[2J" in "".join(lines)
    assert all(line.isprintable() for line in lines)
    [status] = [line for line in lines if line.startswith("status")]
    assert status.split()[1].strip(",") == "failed"


@pytest.mark.parametrize(
    "list_it", [lambda name, text: list_job(forge("actor"), waits=text), list_row]
)
def test_what_is_found_has_one_status_and_no_control_character(list_it):
    """Names of an app's modules, and why a job waits."""
    lines = list_it("waits", FORGERY).split("\n")
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if line.startswith("status")]) <= 1


def test_a_bar_is_one_line_without_control_characters():
    """The words of a progress are the job's."""
    stream = io.StringIO()
    with ProgressBar(stream) as bar:
        bar.show(forge("progress"))
    [line, rest] = stream.getvalue().split("\n")
    assert line.isprintable() and rest == ""


def test_a_line_about_logging_that_raises_is_one_line(monkeypatch):
    """The text of the exception may be a job's, as that of the line is."""

    def fail(record):
        raise ValueError(text)

    # What turns the direction of text is left to a terminal, in any line of a log.
    text = FORGERY.replace("\u202e", "")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    monkeypatch.setattr(logging, "lastResort", handler)
    logger = get_logger("flask_taskq.of_a_test")
    logger.addFilter(fail)
    try:
        logger.error("job %s failed", text)
    finally:
        logger.removeFilter(fail)
    first, *rest = stream.getvalue().splitlines()
    assert "flask_taskq.of_a_test: job " in first
    assert all(line.startswith("    ") for line in rest)
    assert all(line.isprintable() for line in (first, *rest))
