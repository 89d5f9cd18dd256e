"""What can be sent."""

from __future__ import annotations

import re
from datetime import datetime
from datetime import UTC

import pytest

from flask_taskq.clock import Clock
from flask_taskq.jobs.message import generate_id
from flask_taskq.jobs.message import Message


def make(**fields) -> Message:
    defaults = {
        "queue_name": "default",
        "actor_name": "add",
        "args": (1,),
        "kwargs": {},
        "options": {},
    }
    return Message(**{**defaults, **fields})


def test_an_id_is_thirty_two_hex_digits() -> None:
    """In lower case, so that it can be compared as text."""
    assert re.fullmatch(r"[0-9a-f]{32}", generate_id())


def test_no_id_comes_twice() -> None:
    """They are random."""
    assert len({generate_id() for _ in range(10_000)}) == 10_000


def test_a_message_has_an_id_and_a_time_from_the_start() -> None:
    """Each its own id, and the time of its making."""
    before = Clock().now()
    first, second = make(), make()

    assert first.message_id != second.message_id
    assert before <= first.message_timestamp <= Clock().now()


def test_a_message_cannot_be_changed() -> None:
    """What was sent and what is logged are the same."""
    message = make()

    with pytest.raises(AttributeError):
        message.args = (2,)


def test_a_message_as_a_dict_has_dramatiq_s_fields() -> None:
    """The names on the wire."""
    message = make(message_id="0" * 32, message_timestamp=7)

    assert message.asdict() == {
        "queue_name": "default",
        "actor_name": "add",
        "args": (1,),
        "kwargs": {},
        "options": {},
        "message_id": "0" * 32,
        "message_timestamp": 7,
    }


def test_a_copy_differs_in_what_was_named() -> None:
    """All else is kept, the id too."""
    message = make()

    copy = message.copy(queue_name="other", args=())

    assert (copy.queue_name, copy.args) == ("other", ())
    assert copy.message_id == message.message_id
    assert message.queue_name == "default"


def test_the_options_of_a_copy_are_merged() -> None:
    """New ones win, old ones stay, and the original is left alone."""
    message = make(options={"a": 1, "b": 1})

    copy = message.copy(options={"b": 2, "c": 2})

    assert copy.options == {"a": 1, "b": 2, "c": 2}
    assert message.options == {"a": 1, "b": 1}


def test_a_copy_without_changes_is_equal() -> None:
    """And is another object's worth of the same fields."""
    message = make(options={"a": 1})

    assert message.copy() == message


def test_the_time_of_a_message_is_in_utc() -> None:
    """An aware datetime, so that nobody has to guess."""
    message = make(message_timestamp=1_700_000_000_500)

    expected = datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)
    assert message.message_datetime == expected


def test_a_message_as_text_is_the_call() -> None:
    """As it would stand in Python."""
    assert str(make(args=(1, "x"), kwargs={"y": None})) == "add(1, 'x', y=None)"
