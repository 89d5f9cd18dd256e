"""Between bytes and values: what comes back, and what is refused."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import pickle

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example
from hypothesis import given

from flask_taskq.errors import BadArguments
from flask_taskq.errors import DecodeError
from flask_taskq.errors import PayloadTooLarge
from flask_taskq.jobs.encoding import check_actor_name
from flask_taskq.jobs.encoding import check_queue_name
from flask_taskq.jobs.encoding import decode_message
from flask_taskq.jobs.encoding import decode_value
from flask_taskq.jobs.encoding import encode_message
from flask_taskq.jobs.encoding import encode_value
from flask_taskq.jobs.encoding import MAX_DEPTH
from flask_taskq.jobs.message import Message

LIMIT = 262_144

FIELDS = {
    "queue_name": "default",
    "actor_name": "add",
    "args": [1, 2],
    "kwargs": {"x": 3},
    "options": {},
    "message_id": "0123456789abcdef" * 2,
    "message_timestamp": 1_700_000_000_000,
}

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


@dataclasses.dataclass
class Point:
    x: float


class Spot(msgspec.Struct):
    x: float


class Limit(enum.Enum):
    NONE = math.inf


def make(**fields) -> Message:
    defaults = {
        "queue_name": "default",
        "actor_name": "add",
        "args": (),
        "kwargs": {},
        "options": {},
    }
    return Message(**{**defaults, **fields})


def stored(**fields) -> bytes:
    """The bytes of a good message in which some fields were changed."""
    return json.dumps({**FIELDS, **fields}).encode()


def nested(depth: int):
    value = None
    for _ in range(depth):
        value = [value]
    return value


@given(values)
def test_a_json_value_comes_back_as_it_was(value) -> None:
    """Whatever its shape."""
    assert decode_value(encode_value(value)) == value


@given(st.lists(values), st.dictionaries(texts, values), st.dictionaries(texts, values))
def test_a_message_comes_back_as_it_was(args, kwargs, options) -> None:
    """All of its fields, whatever the arguments."""
    message = make(args=tuple(args), kwargs=kwargs, options=options)

    assert decode_message(encode_message(message, 2**24), 2**24) == message


def test_a_message_is_json_with_dramatiq_s_names() -> None:
    """Other programs can read and write it."""
    message = make(args=(1,), message_id="0" * 32, message_timestamp=7)

    assert json.loads(encode_message(message, LIMIT)) == {
        "queue_name": "default",
        "actor_name": "add",
        "args": [1],
        "kwargs": {},
        "options": {},
        "message_id": "0" * 32,
        "message_timestamp": 7,
    }


def test_fields_that_nobody_knows_are_passed_over() -> None:
    """A newer sender may write more."""
    message = decode_message(stored(trace="abc", version=[2]), LIMIT)

    assert (message.actor_name, message.args) == ("add", (1, 2))


@pytest.mark.parametrize("name", ["queue_name", "actor_name", "args", "kwargs", "options"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    """Without it there is nothing to run."""
    fields = {key: value for key, value in FIELDS.items() if key != name}

    with pytest.raises(DecodeError, match=name):
        decode_message(json.dumps(fields).encode(), LIMIT)


@pytest.mark.parametrize(
    "field",
    [
        {"queue_name": 1},
        {"actor_name": None},
        {"args": {}},
        {"args": "ab"},
        {"kwargs": []},
        {"options": None},
        {"message_id": 7},
        {"message_timestamp": "now"},
        {"message_timestamp": 1.5},
    ],
    ids=str,
)
def test_a_field_of_the_wrong_type_is_refused(field) -> None:
    """It is not guessed what was meant."""
    with pytest.raises(DecodeError):
        decode_message(stored(**field), LIMIT)


BAD_NAMES = ["", " ", "a b", "a\n", "\na", "a\r\nX: 1", "ä", "a/b", "a\x00", "a" * 201]


@pytest.mark.parametrize("name", [*BAD_NAMES, "1a", "-a", ".a", "a:b", "a" * 65])
def test_a_bad_queue_name_is_refused(name: str) -> None:
    """In stored bytes, and where it is declared."""
    with pytest.raises(DecodeError):
        decode_message(stored(queue_name=name), LIMIT)
    with pytest.raises(ValueError, match="queue name"):
        check_queue_name(name)


@pytest.mark.parametrize("name", ["a", "_", "Mail.urgent-2", "a" * 64])
def test_a_good_queue_name_is_taken(name: str) -> None:
    """Letters, digits, dots, underscores and hyphens."""
    assert check_queue_name(name) == name
    assert decode_message(stored(queue_name=name), LIMIT).queue_name == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_actor_name_is_refused(name: str) -> None:
    """In stored bytes, and where it is declared."""
    with pytest.raises(DecodeError):
        decode_message(stored(actor_name=name), LIMIT)
    with pytest.raises(ValueError, match="actor name"):
        check_actor_name(name)


@pytest.mark.parametrize("name", ["a", "1", "app.tasks:add", "-", "a" * 200])
def test_a_good_actor_name_is_taken(name: str) -> None:
    """Colons, too."""
    assert check_actor_name(name) == name
    assert decode_message(stored(actor_name=name), LIMIT).actor_name == name


@pytest.mark.parametrize(
    "job_id", ["", "0" * 31, "0" * 33, "0" * 31 + "G", "A" * 32, "0" * 32 + "\n", "é" * 32]
)
def test_a_bad_id_is_refused(job_id: str) -> None:
    """It would land in logs, headers and URLs."""
    with pytest.raises(DecodeError):
        decode_message(stored(message_id=job_id), LIMIT)


def test_a_long_bad_name_is_not_repeated_in_full() -> None:
    """The error goes to a log line."""
    with pytest.raises(DecodeError) as caught:
        decode_message(stored(actor_name="x" * 100_000), LIMIT)

    assert len(str(caught.value)) < 300


@given(st.binary(max_size=300))
@example(b"")
@example(b"null")
@example(b"[]")
@example(b"{}")
@example(b"\xff\xfe{\x00}\x00")
@example(b"\x00" * 100)
def test_arbitrary_bytes_are_no_message(data: bytes) -> None:
    """They are refused by the one error that keeps them."""
    with pytest.raises(DecodeError) as caught:
        decode_message(data, LIMIT)

    assert caught.value.data == data


@given(st.data())
def test_a_message_with_damage_is_a_message_or_refused(data) -> None:
    """One byte wrong, and still nothing but a DecodeError comes out."""
    good = stored()
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.binary(min_size=0, max_size=2))
    damaged = good[:place] + byte + good[place + 1 :]

    try:
        message = decode_message(damaged, LIMIT)
    except DecodeError as error:
        assert error.data == damaged
    else:
        assert isinstance(message, Message)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5_000])
def test_a_number_that_cannot_be_is_refused(number: str) -> None:
    """Python's own decoder would take some of them."""
    data = stored(args=["?"]).replace(b'"?"', number.encode())

    with pytest.raises(DecodeError):
        decode_message(data, LIMIT)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_no_message(protocol: int) -> None:
    """It is refused like any other bytes, and never loaded."""
    with pytest.raises(DecodeError):
        decode_message(pickle.dumps(make(), protocol), LIMIT)


def test_too_many_bytes_are_refused_unread() -> None:
    """A byte over the limit is over the limit, though it would be a message."""
    data = stored()
    assert decode_message(data, len(data))

    with pytest.raises(DecodeError, match="limit"):
        decode_message(data, len(data) - 1)


def test_a_message_over_the_limit_cannot_be_sent() -> None:
    """The error names the actor, the size, the limit and the key."""
    message = make(args=("x" * 1_000,))
    size = len(encode_message(message, LIMIT))
    assert encode_message(message, size)

    with pytest.raises(PayloadTooLarge) as caught:
        encode_message(message, size - 1)

    for word in ("'add'", f"{size:,}", f"{size - 1:,}", "TASKQ_MAX_MESSAGE_SIZE"):
        assert word in str(caught.value)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"":'])
def test_a_million_levels_are_refused(opening: bytes) -> None:
    """And the thread that reads them survives."""
    data = opening * 1_000_000

    with pytest.raises(DecodeError, match="deep"):
        decode_message(data, len(data))


def test_a_million_levels_inside_an_argument_are_refused() -> None:
    """Closed properly, too."""
    deep = b"[" * 1_000_000 + b"]" * 1_000_000
    data = stored(args=["?"]).replace(b'"?"', deep)

    with pytest.raises(DecodeError, match="deep"):
        decode_message(data, len(data))


def test_a_hundred_levels_are_the_limit() -> None:
    """The same at both ends."""
    assert decode_value(encode_value(nested(MAX_DEPTH))) == nested(MAX_DEPTH)

    with pytest.raises(ValueError, match="deep"):
        encode_value(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("depth", [101, 300, 700, 2_000])
def test_a_value_that_is_too_deep_is_a_plain_error(depth: int) -> None:
    """Never one of the interpreter's own stack."""
    with pytest.raises(ValueError):
        encode_value(nested(depth))


def test_a_value_that_contains_itself_is_refused() -> None:
    """It has no end, and no JSON form."""
    value: list = []
    value.append(value)

    with pytest.raises(ValueError):
        encode_value(value)


@pytest.mark.parametrize(
    "text", ["[" * 500, "{" * 500, '"[' * 500, "\\" + "[" * 500, '\\"[' * 500, "]" * 500]
)
def test_brackets_inside_a_text_are_no_levels(text: str) -> None:
    """Whatever is escaped around them."""
    message = make(args=(text,), kwargs={text: text})

    assert decode_message(encode_message(message, LIMIT), LIMIT) == message


@pytest.mark.parametrize("tail", [b"", b"\\", b'"', b'\\"'])
def test_quotes_that_never_end_cost_no_time(tail: bytes) -> None:
    """Bytes made to be slow to look at are refused as fast as any others."""
    data = b"[]" * 101 + b'"' + b'\\"' * 120_000 + tail

    # The gate's own limit on a test would end this one: read naively, it takes minutes.
    with pytest.raises(DecodeError):
        decode_message(data, LIMIT)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [1, x],
        lambda x: (x,),
        lambda x: {"a": {"b": x}},
        Point,
        Spot,
        lambda x: [Point(x)],
    ],
    ids=["bare", "list", "tuple", "dict", "dataclass", "struct", "inner dataclass"],
)
def test_a_number_that_is_not_finite_is_refused(number: float, wrap) -> None:
    """Written as null it would come back as something else."""
    with pytest.raises(ValueError, match="NaN or infinite"):
        encode_value(wrap(number))


def test_an_enum_of_a_number_that_is_not_finite_is_refused() -> None:
    """It would be written as null, too."""
    with pytest.raises(ValueError, match="NaN or infinite"):
        encode_value([Limit.NONE])


def test_none_beside_numbers_is_no_suspect() -> None:
    """The word null may be there for good."""
    assert encode_value([None, 1.5, "null", Point(0.5)]) == b'[null,1.5,"null",{"x":0.5}]'


@given(st.integers())
@example(2**63)
@example(2**64)
@example(-(2**63) - 1)
@example(10**1_000)
def test_a_whole_number_of_any_size_is_kept_or_refused(number: int) -> None:
    """It never turns into another one."""
    try:
        data = encode_value(number)
    except ValueError:
        assert abs(number) >= 2**63
    else:
        assert decode_value(data) == number


@pytest.mark.parametrize("value", [object(), {1, object()}, lambda: 1, {(1, 2): 3}, 1j])
def test_what_has_no_json_form_is_a_type_error(value) -> None:
    """At any depth."""
    with pytest.raises(TypeError):
        encode_value([value])


def test_half_a_character_is_refused() -> None:
    """A lone surrogate has no UTF-8 form."""
    with pytest.raises(ValueError):
        encode_value("\ud800")


@pytest.mark.parametrize("bad", [object(), math.nan, "\ud800", nested(200)], ids=range(4))
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (lambda bad: {"args": (bad,)}, "argument 'first'"),
        (lambda bad: {"args": (1, bad)}, "argument 'second'"),
        (lambda bad: {"args": (1, 2, [bad])}, "argument '2'"),
        (lambda bad: {"kwargs": {"x": 1, "y": {"z": bad}}}, "argument 'y'"),
        (lambda bad: {"options": {"eta": bad}}, "option 'eta'"),
    ],
    ids=["first", "second", "variadic", "keyword", "option"],
)
def test_the_culprit_is_named(bad, fields, place: str) -> None:
    """Which argument, of which actor."""
    message = make(**fields(bad))

    with pytest.raises(BadArguments) as caught:
        encode_message(message, LIMIT, ["first", "second"])

    assert place in str(caught.value)
    assert "'add'" in str(caught.value)
