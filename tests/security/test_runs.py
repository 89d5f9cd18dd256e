"""Bad data and secrets on the whole way: sender, runner, record, log, and HTTP."""

import logging
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_taskq import Message
from flask_taskq import TaskQ
from flask_taskq.actors.actor import Actor
from flask_taskq.actors.job import Job
from flask_taskq.clock import Clock
from flask_taskq.config import redact_url
from flask_taskq.errors import JobNotFound
from flask_taskq.errors import ResultFailure
from flask_taskq.jobs.encoding import ACTOR_NAME
from flask_taskq.jobs.encoding import JOB_ID
from flask_taskq.jobs.encoding import QUEUE_NAME
from flask_taskq.jobs.message import generate_id
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import Status
from flask_taskq.testing import drain
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_app
from tests.support.apps import make_broker
from tests.support.apps import messages
from tests.support.apps import once

CANARY = "canary-7f3a"
DAY = 24 * 3600 * 1000


@pytest.fixture
def line(clock):
    return Line(make_broker(clock))


# Names are looked up, and never imported


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "subprocess:run", "antigravity"]
)
def test_a_forged_name_is_not_looked_up_anywhere_else(line, clock, monkeypatch, name):
    """It is no declared actor, so nothing runs; after a day it is a dead letter."""
    called = []
    monkeypatch.setattr(os, "system", called.append)
    imported = set(sys.modules)
    job_id = line.put(Message("default", name, ("touch /tmp/x",), {}, {}))
    line.run_next()
    clock.advance(DAY)
    line.run_next()
    assert line.record(job_id).error.code == "unknown_actor"
    assert called == []
    assert "antigravity" not in set(sys.modules) - imported


@pytest.mark.parametrize("name", ["__init__", "__class__", "fn", "_resolver", "actor_name"])
def test_an_attribute_is_no_actor(line, name):
    """Names are keys of a table, and not attributes of an object."""
    declare(line.broker, lambda: None, actor_name="add")
    job_id = line.put(Message("default", name, (), {}, {}))
    line.run_next()
    assert line.record(job_id).status_reason == "unknown_actor"


def test_a_forged_error_imports_nothing():
    """CVE-2021-23727: a class that is named in stored data is text, and stays text."""
    data = msgspec.json.encode(JobError(type="antigravity.Error", message="rm -rf"))
    record = JobRecord(
        id=generate_id(),
        queue="default",
        actor="add",
        priority=0,
        status=Status.FAILED,
        message=b"",
        created_at=0,
        updated_at=0,
        error=msgspec.json.decode(data, type=JobError),
    )
    with pytest.raises(ResultFailure) as caught:
        Job(record, source=None).get_result()
    assert type(caught.value) is ResultFailure
    assert caught.value.orig_exc_type == "antigravity.Error"
    assert "antigravity" not in sys.modules


# Secrets


@pytest.fixture
def secret_actors(line):
    """Actors that do all that an actor can do with a secret."""

    def fail(secret, **more):
        raise ValueError(secret)

    broker = line.broker
    return [
        declare(broker, lambda secret, **more: secret, actor_name="good"),
        declare(broker, lambda secret, **more: {secret: 1j}, actor_name="bad_result"),
        declare(broker, fail, actor_name="retried"),
        declare(broker, fail, actor_name="failed", **once()),
        declare(broker, lambda: None, actor_name="mismatched"),
    ]


def test_no_line_at_info_has_a_secret(line, secret_actors, caplog):
    """Neither of arguments and results, nor of an exception's text."""
    caplog.set_level(logging.DEBUG)
    for actor in secret_actors:
        message = Message("default", actor.actor_name, (CANARY,), {"token": CANARY}, {})
        line.put(message)
        line.run_next()
    line.put(Message("default", "unheard", (CANARY,), {"token": CANARY}, {}))
    line.run_next()
    assert len(caplog.records) == 6
    quiet = [record for record in caplog.records if record.levelno <= logging.INFO]
    assert quiet
    assert not any(CANARY in record.getMessage() for record in caplog.records)


def test_only_the_text_of_an_exception_can_have_a_secret(line, secret_actors, caplog):
    """It is the developer's own words, at the level of an error."""
    texts = {}
    for actor in secret_actors:
        caplog.clear()
        line.put(Message("default", actor.actor_name, (CANARY,), {"token": CANARY}, {}))
        line.run_next()
        texts[actor.actor_name] = "".join(messages(caplog))
    assert {name for name, text in texts.items() if CANARY in text} == {"retried", "failed"}


def test_a_stored_error_has_no_arguments(line, secret_actors):
    """Neither the one of arguments that do not fit nor that of a result that is no JSON."""
    for name in ("bad_result", "mismatched"):
        options = {"unchecked": True}  # else it would wait for a worker that takes them
        job_id = line.put(Message("default", name, (CANARY,), {"token": CANARY}, options))
        line.run_next()
        error = line.record(job_id).error
        assert CANARY not in error.message + error.traceback


def test_an_error_at_send_has_no_arguments(line, secret_actors):
    """It ends up in the log of the web server."""
    good, *_, mismatched = secret_actors
    for send in (
        lambda: good.send(CANARY, token={CANARY: object()}),
        lambda: good.send(CANARY * 100_000),
        lambda: mismatched.send(CANARY),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            send()
        assert CANARY not in str(caught.value)


def test_http_shows_no_argument_and_no_traceback(clock):
    """Only what ``TASKQ_EXPOSE`` lets out."""
    taskq = TaskQ(clock=clock)

    def fail(secret):
        inner = secret * 2
        raise ValueError(len(inner))

    actor = taskq.actor(fail, actor_name="fail", **once())
    app = make_app(taskq)
    with app.app_context():
        job = actor.send(CANARY)
    drain(app, raise_failures=False)
    text = app.test_client().get(f"/jobs/{job.id}").text
    for secret in (CANARY, "ValueError", "Traceback", "fail(secret)"):
        assert secret not in text


def test_no_text_of_an_exception_gets_out_by_any_way_to_clients(caplog):
    """The resource, the answer of a view, and the dict for an answer of its own; while those
    who run the app find it in the record and in the log."""
    taskq = TaskQ()

    def fail():
        raise ConnectionError(f"password {CANARY} refused")

    actor = taskq.actor(fail, actor_name="fail", **once())
    app = make_app(taskq)
    with app.app_context():
        job = actor.send()
    drain(app, raise_failures=False)
    with app.test_request_context():
        job.refresh()
        shown = [taskq.accepted(job).get_data(as_text=True), str(job.as_dict())]
    client = app.test_client()
    shown += [client.get(f"/jobs/{job.id}{path}").text for path in ("", "/result")]
    shown.append(client.delete(f"/jobs/{job.id}").text)
    for text in shown:
        assert CANARY not in text
        assert "ConnectionError" not in text
    assert CANARY in job.record.error.message
    assert CANARY in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{CANARY}@host/x",
        f"amqp://u:{CANARY}@h",
        f"x://:{CANARY}@/a",
        f"reddis://h/0?password={CANARY}",
        f"redis://h:port/0?password={CANARY}",
        f"redis://h/0?passwrt={CANARY}",
        f"sqlite:///?key={CANARY}",
    ],
)
def test_an_error_of_configuration_has_no_password(url):
    """A URL is shown without it, and without its query."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = url
    with pytest.raises(Exception) as caught:
        TaskQ(app)
    assert CANARY not in str(caught.value)
    assert CANARY not in redact_url(url)


# Ids


def test_an_id_is_128_bits_of_the_systems_randomness(monkeypatch):
    """Nothing of it can be guessed, and nothing is left out."""
    monkeypatch.setattr(os, "urandom", lambda n: bytes(range(n)))
    assert generate_id() == "000102030405060708090a0b0c0d0e0f"


def test_ids_do_not_repeat_and_use_every_bit():
    """In 4,096 of them each of the 128 bits is set in about a half."""
    numbers = [int(generate_id(), 16) for _ in range(4_096)]
    assert len(set(numbers)) == len(numbers)
    counts = Counter(bit for number in numbers for bit in range(128) if number >> bit & 1)
    # Eight standard deviations: it fails once in 10^13 runs.
    assert all(abs(counts[bit] - 2_048) < 256 for bit in range(128))


def test_ids_of_two_processes_differ():
    """Also when one was forked from the other: the system keeps no state in a process."""
    code = "from flask_taskq.jobs.message import generate_id; print(generate_id())"
    ids = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert len(ids) == 2


# Injection by names


texts = st.text(max_size=40) | st.from_regex(r"[a-z0-9]{31}[a-z0-9\n]", fullmatch=True)


@given(texts)
def test_no_name_gets_past_the_door(name):
    """An actor's and a queue's name are letters, digits and a few signs, or an error."""
    for field, pattern in (("actor_name", ACTOR_NAME), ("queue_name", QUEUE_NAME)):
        fields = {"actor_name": "a", field: name}
        if pattern.fullmatch(name):
            Actor(lambda: None, resolver=lambda: None, **fields)
        else:
            with pytest.raises(ValueError):
                Actor(lambda: None, resolver=lambda: None, **fields)


door = make_broker(Clock())


@given(texts)
def test_no_name_gets_past_the_broker(name):
    """In a message that was made by hand."""
    for field in ("actor_name", "queue_name", "message_id"):
        pattern = {"actor_name": ACTOR_NAME, "queue_name": QUEUE_NAME}.get(field, JOB_ID)
        if not pattern.fullmatch(name):
            message = Message("default", "add", (), {}, {}).copy(**{field: name})
            with pytest.raises(ValueError):
                door.enqueue(message)


@pytest.fixture(scope="module")
def client():
    return make_app(TaskQ()).test_client()


@given(
    text=st.text(min_size=1).filter(lambda text: "/" not in text and text not in (".", ".."))
)
def test_no_text_in_a_url_comes_back(client, text):
    """Not in a header, not in the body, whatever it is."""
    response = client.get(f"/jobs/{quote(text, safe='')}")
    unknown = client.get(f"/jobs/{'0' * 32}")
    assert response.status_code == 404
    assert (response.data, str(response.headers)) == (unknown.data, str(unknown.headers))


@given(text=st.text(max_size=40).filter(lambda text: not JOB_ID.fullmatch(text)))
def test_a_text_that_is_no_id_is_shown_in_one_line(text):
    """In the error that a developer may log."""
    with pytest.raises(JobNotFound) as caught:
        TaskQ().job(text)
    assert re.fullmatch(r"[^\x00-\x1f\x7f\x85\u2028\u2029]*", str(caught.value))


def test_a_damaged_message_cannot_write_lines_of_its_own(line, caplog):
    """What is repeated of it is escaped."""
    forged = msgspec.structs.replace(
        Message("default", "add", (), {}, {}), actor_name="x\nCRITICAL all your base"
    )
    line.put(forged, actor="add")
    line.run_next()
    [record] = caplog.records
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int, CANARY), (dict[str, int], {CANARY: CANARY}), (Any, {CANARY: {CANARY}})],
    ids=str,
)
def test_an_argument_of_the_wrong_type_is_not_repeated(line, annotation, value):
    """The text says what was expected and which type came, and no value or key."""

    def take(it): ...

    take.__annotations__ = {"it": annotation}
    with pytest.raises(TypeError) as caught:
        declare(line.broker, take).send(value)
    assert CANARY not in str(caught.value)
