"""What a log says about jobs, in lines that nothing can forge."""

import io
import json
import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskq import TaskQ
from flask_taskq.logs import JobFilter
from flask_taskq.logs import JSONFormatter
from flask_taskq.logs import request_id
from flask_taskq.logs import TextFormatter
from flask_taskq.testing import drain
from tests.support.apps import make_app
from tests.support.apps import once

#: How a line of the text format begins.
BEGINNING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ +\[\d+\] ")

FORMATTERS = {"text": TextFormatter, "json": JSONFormatter}


@pytest.fixture(params=FORMATTERS)
def formatter(request):
    return FORMATTERS[request.param]()


@pytest.fixture
def log():
    """What the root logger is told, with the filter on its handler, as lines of JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    handler.addFilter(JobFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


def make_record(message="hello", *args, **attributes):
    record = logging.LogRecord("some.library", logging.INFO, __file__, 1, message, args, None)
    record.__dict__.update(attributes)
    return record


def raised(text):
    try:
        raise ValueError(text)
    except ValueError:
        return sys.exc_info()


def run(fn, *args, **options):
    """Run a function as a job; a handle on it."""
    taskq = TaskQ()
    app = make_app(taskq)
    actor = taskq.actor(fn, actor_name="actor", **options)
    with app.app_context():
        actor.send(*args)
    [job] = drain(app, raise_failures=False)
    return job


@pytest.mark.needs("CurrentJob")
def test_each_record_inside_a_job_has_it(log):
    """Also records of other libraries."""
    job = run(lambda: logging.getLogger("some.library").info("hello"))
    [line] = [line for line in log() if line["logger"] == "some.library"]
    assert (line["job_id"], line["actor"], line["attempt"]) == (job.id, "actor", 1)


def test_the_line_of_a_run_has_its_job(log):
    """Though it is logged when the job is over."""
    job = run(lambda: None)
    [line] = log()
    assert line["logger"] == "flask_taskq.jobs"
    assert (line["job_id"], line["actor"], line["attempt"]) == (job.id, "actor", 1)


def test_the_line_of_a_failure_has_its_traceback(log):
    """As one string."""
    run(lambda: 1 / 0, **once())
    [line] = log()
    assert line["level"] == "ERROR"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


def test_no_line_has_arguments_or_results(log):
    """They may be secrets."""
    run(lambda secret: secret, "canary")
    assert "canary" not in str(log())


def test_a_record_outside_of_a_job_has_none(log):
    """The attributes are there all the same, for formats that name them."""
    logging.getLogger("some.library").info("hello")
    [line] = log()
    assert set(line) == {"time", "level", "logger", "message", "process"}
    record = make_record()
    assert JobFilter().filter(record)
    assert (record.job_id, record.actor, record.attempt, record.request_id) == (None,) * 4


def test_what_a_record_has_already_stays():
    """An app may use the same words."""
    record = make_record(actor="Buster Keaton")
    JobFilter().filter(record)
    assert record.actor == "Buster Keaton"


def test_the_request_of_a_job_is_on_its_records(log):
    """An app sets it, and the next job does not have it."""

    def work(request):
        request_id.set(request)
        logging.getLogger("some.library").info("hello")

    run(work, "r1")
    logging.getLogger("some.library").info("hello")
    lines = [line for line in log() if line["logger"] == "some.library"]
    assert [line.get("request_id") for line in lines] == ["r1", None]


def test_a_line_of_text_begins_with_time_level_process_and_logger():
    """And ends with the message."""
    line = TextFormatter().format(make_record("%d jobs", 3, created=0.25, process=7))
    assert BEGINNING.match(line)
    assert line.endswith(",250 INFO    [7] some.library: 3 jobs")


def test_a_line_of_text_shows_the_job_once():
    """Not where the message names it already."""
    one = TextFormatter().format(make_record(job_id="f00"))
    other = TextFormatter().format(make_record("job f00 succeeded", job_id="f00"))
    assert one.endswith(": [job f00] hello")
    assert other.endswith(": job f00 succeeded")


def test_a_line_of_json_has_the_time_in_utc():
    """With milliseconds."""
    times = [
        json.loads(JSONFormatter().format(make_record(created=at)))["time"]
        for at in (0.0, 0.0625, 86_399.5)
    ]
    assert times == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:00.062Z",
        "1970-01-01T23:59:59.500Z",
    ]


def test_the_time_goes_on():
    """The text of a second is used for that second alone."""
    formatter = JSONFormatter()
    lines = [formatter.format(make_record(created=at)) for at in (1.0, 2.0, 2.5, 1.0)]
    seconds = [json.loads(line)["time"][17:19] for line in lines]
    assert seconds == ["01", "02", "02", "01"]


def test_a_value_that_is_no_json_is_shown_as_text():
    """An app may put anything there."""
    line = JSONFormatter().format(make_record(request_id=ValueError))
    assert json.loads(line)["request_id"] == "<class 'ValueError'>"


FORGED = "\n2026-01-01 00:00:00,000 INFO    [1] flask_taskq.jobs: job 1 succeeded"


@pytest.mark.parametrize("where", ["message", "argument", "name", "job_id", "exception"])
def test_no_value_forges_a_line_of_text(where):
    """Only the first line of a record begins as a line does."""
    record = make_record("hello %s", "x")
    if where == "message":
        record.msg += FORGED
    elif where == "argument":
        record.args = (FORGED,)
    elif where == "exception":
        record.exc_info = raised(FORGED)
    else:
        setattr(record, where, FORGED)
    lines = TextFormatter().format(record).splitlines()
    assert BEGINNING.match(lines[0])
    assert len(lines) > 1
    assert all(line.startswith("    ") for line in lines[1:])


# Everything below U+0100, the separators that Unicode adds, and half a surrogate pair.
@given(
    st.text(
        st.characters(max_codepoint=255) | st.sampled_from("\u2028\u2029\ud800"), max_size=40
    )
)
@pytest.mark.parametrize("name", FORMATTERS)
def test_no_control_character_reaches_the_terminal(name, text):
    """Nor does anything that ends a line."""
    record = make_record("%s", text, job_id=text, exc_info=raised(text))
    line = FORMATTERS[name]().format(record)
    left = {c for c in line if not c.isprintable()} - set("\t\n\xa0\xad\ud800")
    assert not left
    if name == "json":
        assert line.isascii()
        assert json.loads(line)["message"] == text


def test_a_traceback_can_be_read():
    """Its lines are lines, below the message."""
    record = make_record(exc_info=raised("no"))
    lines = TextFormatter().format(record).splitlines()
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    ValueError: no"


def test_a_stack_is_shown(formatter):
    """For ``stack_info=True``."""
    line = formatter.format(make_record(stack_info="Stack (most recent call last)"))
    assert "Stack (most recent call last)" in line
