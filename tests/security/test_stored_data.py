"""Stored bytes are suspicious: nothing in them is imported, called or believed."""

from __future__ import annotations

import json
import pickle
import random
import sqlite3
import sys

import msgspec
import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.errors import DecodeError
from flask_taskq.errors import ResultFailure
from flask_taskq.jobs.encoding import decode_message
from flask_taskq.jobs.message import Message
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import LogLine
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import failed
from tests.support.bench import retry

LIMIT = 262_144

GOOD = {
    "queue_name": "default",
    "actor_name": "add",
    "args": [1],
    "kwargs": {},
    "options": {},
    "message_id": "0" * 32,
    "message_timestamp": 1,
}


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self):
        return (sys.exit, ("unpickled",))


def stored(**fields) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_does_not_go_off(protocol: int) -> None:
    """It is refused, whole, before anything is made of it."""
    data = pickle.dumps(Bomb(), protocol)

    with pytest.raises(DecodeError) as caught:
        decode_message(data, LIMIT)

    assert caught.value.data == data


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "__main__:run"])
def test_the_name_of_a_function_stays_a_name(name: str) -> None:
    """It is text that is looked up among declared actors, and imported by nobody."""
    message = decode_message(stored(actor_name=name), LIMIT)

    assert type(message) is Message
    assert message.actor_name == name


@pytest.mark.parametrize(
    "options",
    [{"py/object": "os.system"}, {"__class__": "Bomb"}, {"!!python/object": 1}],
)
def test_words_that_other_formats_obey_are_data(options: dict) -> None:
    """They come out as the dict that they are."""
    assert decode_message(stored(options=options), LIMIT).options == options


def test_the_class_of_a_stored_error_is_not_revived() -> None:
    """A forged record names a class; what is raised is ours, with the name as text."""
    data = b'{"type": "os.system", "message": "rm", "code": "exception", "args": ["x"]}'
    error = msgspec.json.decode(data, type=JobError)
    failure = ResultFailure("failed", error.type, error.message)

    assert type(failure) is ResultFailure
    assert (failure.orig_exc_type, failure.orig_exc_msg) == ("os.system", "rm")


@pytest.mark.parametrize("character", [chr(n) for n in [*range(0x21), 0x7F, 0x85, 0x2028]])
@pytest.mark.parametrize("field", ["queue_name", "actor_name", "message_id"])
def test_no_control_character_gets_into_a_name(field: str, character: str) -> None:
    """Names and ids stand in log lines, headers and URLs."""
    for name in (GOOD[field] + character, character + GOOD[field]):
        with pytest.raises(DecodeError):
            decode_message(stored(**{field: name}), LIMIT)


def test_ten_thousand_bad_messages_are_each_refused() -> None:
    """Random bytes, cut-off and garbled messages: one kind of error, and nothing else."""
    rng = random.Random(7)
    good = stored(args=["x" * 50, {"a": [1, 2]}])
    refused = 0
    for _ in range(10_000):
        match rng.randrange(3):
            case 0:
                data = rng.randbytes(rng.randrange(200))
            case 1:
                data = good[: rng.randrange(len(good))]
            case _:
                place = rng.randrange(len(good))
                data = good[:place] + b"\x00" + good[place + 1 :]
        try:
            decode_message(data, LIMIT)
        except DecodeError:
            refused += 1

    assert refused == 10_000


@pytest.mark.parametrize("data", [b"", b"[1]", b"\xff", b'[{"at":1}]', b'{"current":null}'])
def test_damaged_notes_of_a_run_do_not_keep_an_outcome_from_being_stored(tmp_path, data):
    """Neither they nor those that come after them."""
    settings = Settings(broker_url=f"sqlite:///{tmp_path}/taskq.sqlite3")
    bench = Bench(make_engine(settings, Clock()))
    delivery = bench.running()
    with sqlite3.connect(tmp_path / "taskq.sqlite3") as connection:
        connection.execute("UPDATE taskq_live SET progress = ?", (data,))
        connection.execute("UPDATE taskq_job SET logs = ?", (data,))
    connection.close()
    record = bench.record(delivery.id)
    assert (record.progress, record.logs) == (None, ())

    line = LogLine(1, "info", "on", 1)
    assert None not in bench.settle(done(delivery, logs=(line,))).outcomes

    assert bench.record(delivery.id).logs == (line,)
    bench.close()


@pytest.mark.parametrize("data", [b"", b"[1]", b"\xff", b'[{"number":1}]'])
def test_a_damaged_history_does_not_keep_an_outcome_from_being_stored(tmp_path, data) -> None:
    """It is forgotten, and begins anew."""
    settings = Settings(broker_url=f"sqlite:///{tmp_path}/taskq.sqlite3")
    bench = Bench(make_engine(settings, Clock()))
    bench.settle(retry(bench.running(), at=0))
    with sqlite3.connect(tmp_path / "taskq.sqlite3") as connection:
        connection.execute("UPDATE taskq_job SET attempts = ?", (data,))
    connection.close()
    delivery = bench.claim()
    assert bench.record(delivery.id).attempts == ()

    assert None not in bench.settle(failed(delivery)).outcomes

    assert [attempt.number for attempt in bench.record(delivery.id).attempts] == [2]
    bench.close()
