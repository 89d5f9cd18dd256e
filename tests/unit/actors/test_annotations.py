"""Values that JSON has no word for: as arguments and as results, by annotation."""

import dataclasses
import decimal
import enum
import typing
import uuid
from datetime import date
from datetime import datetime
from datetime import time
from datetime import timedelta
from datetime import UTC
from typing import Any
from typing import Literal
from typing import Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.actors.actor import Actor
from flask_taskq.errors import BadResult
from flask_taskq.errors import SkipMessage
from flask_taskq.testing import ManualClock
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_app
from tests.support.apps import make_broker


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Address:
    street: str
    since: date


@dataclasses.dataclass
class Person:
    name: str
    key: uuid.UUID
    homes: list[Address]
    boss: Optional["Person"] = None


class Price(msgspec.Struct):
    amount: decimal.Decimal
    at: datetime


addresses = st.builds(Address, st.text(), st.dates())
leaders = st.builds(Person, st.text(), st.uuids(), st.lists(addresses, max_size=2))
people = st.builds(
    Person,
    st.text(),
    st.uuids(),
    st.lists(addresses, max_size=2),
    st.none() | leaders,
)
moments = st.datetimes(timezones=st.none() | st.just(UTC))
decimals = st.decimals(allow_nan=False)
#: A type, and values of it.
VALUES = [
    (datetime, moments),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(-10_000), timedelta(10_000))),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, decimals),
    (bytes, st.binary()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Address, addresses),
    (Person, people),
    (Price, st.builds(Price, decimals, moments)),
    (list[Person], st.lists(people, max_size=3)),
    (dict[date, Level], st.dictionaries(st.dates(), st.sampled_from(Level), max_size=3)),
    (dict[int, str], st.dictionaries(st.integers(-99, 99), st.text(), max_size=3)),
    (set[uuid.UUID], st.sets(st.uuids(), max_size=3)),
    (tuple[int, date], st.tuples(st.integers(-99, 99), st.dates())),
    (datetime | None, st.none() | moments),
    (uuid.UUID | int, st.uuids() | st.integers(-99, 99)),
    (Any, st.none() | st.booleans() | st.text() | st.lists(st.text())),
    (dict[str, int | None], st.dictionaries(st.text(), st.none() | st.integers(-9, 9))),
]


@pytest.fixture
def line(clock):
    return Line(make_broker(clock))


def annotated(fn, **annotations):
    """The function with these annotations, as if they had been written there."""
    fn.__annotations__ = annotations
    return fn


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(("type_", "values"), VALUES, ids=lambda it: str(it)[:40])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_value_comes_as_it_was_sent_and_back_as_it_was_returned(type_, values, data):
    """Whichever way a parameter is given, the actor gets the value; the handle has it again."""
    value = data.draw(values)
    line = Line(make_broker(ManualClock()))
    seen = []

    def take(it, *rest, key, **others):
        seen.extend([it, *rest, key, *others.values()])
        return it

    annotated(take, it=type_, rest=type_, key=type_, others=type_)
    take.__annotations__["return"] = type_
    actor = declare(line.broker, take)
    job = actor.send(value, value, value, key=value, more=value)
    assert line.run(job).status is Status.SUCCEEDED
    assert len(seen) == 5
    assert all(same(one, value) for one in seen)
    assert same(job.get_result(), value)


@pytest.mark.parametrize(("type_", "values"), VALUES, ids=lambda it: str(it)[:40])
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_parameter_given_by_its_name_is_converted_too(type_, values, data):
    """As one that is given by its place."""
    value = data.draw(values)
    line = Line(make_broker(ManualClock()))
    seen = []
    actor = declare(
        line.broker, annotated(lambda it: seen.append(it), it=type_), actor_name="a"
    )
    assert line.run(actor.send(it=value)).status is Status.SUCCEEDED
    assert same(seen[0], value)


def arguments(line, fn, *args, **kwargs):
    """What a function got when a worker called it."""
    seen = []

    def note(*args, **kwargs):
        seen.append((args, kwargs))

    actor = declare(line.broker, fn, actor_name="noted")
    actor.fn = note
    job = actor.send(*args, **kwargs)
    assert line.run(job).status is Status.SUCCEEDED
    return seen[0]


def test_what_is_not_given_is_left_to_the_functions_default(line):
    """A default is not converted, whatever it is."""

    def fn(when: datetime = "now", other: datetime = "then"): ...

    assert arguments(line, fn) == ((), {})


def test_a_default_of_none_allows_none(line):
    """It is what the author meant."""

    def fn(when: datetime = None): ...

    assert arguments(line, fn, None) == ((None,), {})


class Foreign:
    """Something of which msgspec knows nothing."""


@pytest.mark.parametrize(
    "annotation",
    [
        "Nowhere",
        "list[Nowhere]",
        "1/0",
        Foreign,
        list[Foreign],
        dict[str, Foreign | None],
        datetime | str,
        typing.TypeVar("T"),
    ],
    ids=str,
)
def test_an_annotation_that_says_nothing_leaves_its_value_alone(line, annotation):
    """And only its own."""
    fn = annotated(lambda what, when: None, what=annotation, when="date")
    day = date(2026, 1, 1)
    assert arguments(line, fn, ["x"], day) == ((["x"], day), {})


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        float,
        str,
        bool,
        None,
        dict,
        list,
        Any,
        list[int],
        dict[str, list[float] | None],
        int | str,
        Literal["a", 1],
    ],
    ids=str,
)
def test_types_of_json_are_not_converted(annotation):
    """A worker calls the actor with what was decoded, and pays nothing for it."""
    fn = annotated(lambda a: None, a=annotation)
    fn.__annotations__["return"] = annotation
    actor = Actor(fn, resolver=lambda: None, actor_name="a")
    args, kwargs = [{"a": [1]}], {}
    assert actor.arguments.convert(args, kwargs) == (args, kwargs)
    assert actor.arguments.convert(args, kwargs)[0] is args
    assert actor.decode_result(b'{"a": [1]}') == {"a": [1]}


def test_annotations_are_read_when_they_are_needed(line):
    """They may name a class that is defined below the function."""

    fn = annotated(lambda it: None, it="Later")
    actor = declare(line.broker, fn, actor_name="late")
    globals()["Later"] = date
    try:
        assert actor.arguments.convert(["2026-01-01"], {})[0] == [date(2026, 1, 1)]
    finally:
        del globals()["Later"]


@pytest.mark.needs("Retries")
def test_an_error_of_another_send_is_the_actors_own(line):
    """It is retried: only this job's arguments are this job's fault."""

    def visit(when: date):
        other.send(object())

    other = declare(line.broker, lambda it: None, actor_name="other")
    actor = declare(line.broker, visit)
    record = line.run(actor.send(date(2026, 1, 1)))
    assert record.status is Status.SCHEDULED
    assert (record.error.type, record.error.code) == ("BadArguments", "exception")


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (datetime, "noon", "expected datetime, got str"),
        (int, "3", "expected int, got str"),
        (int, None, "expected int, got None"),
        (None, 5, "expected None, got int"),
        (list[int], [1, "2"], "expected int, got str at result[1]"),
        (dict[str, date], {"a": 1}, "expected date, got int at result[...]"),
    ],
)
def test_a_result_that_does_not_fit_its_annotation_fails_the_job(line, annotation, value, told):
    """At once: running it again would not change what it returns. Nothing reads a value that
    is not what the function says."""
    fn = annotated(lambda: value, **{"return": annotation})
    record = line.run(declare(line.broker, fn, actor_name="now").send())
    assert (record.status, record.error.code) == (Status.FAILED, "bad_result")
    assert record.error.type == "BadResult"
    assert "the result of actor 'now' does not fit its annotation" in record.error.message
    assert told in record.error.message


def test_a_result_is_not_held_against_an_annotation_where_the_actor_wants_none(line):
    """``check_types=False``; the reader of the result finds out."""
    fn = annotated(lambda: "noon", **{"return": datetime})
    job = declare(line.broker, fn, actor_name="now", check_types=False).send()
    assert line.run(job).status is Status.SUCCEEDED
    with pytest.raises(BadResult, match=r"actor 'now'.*datetime"):
        job.get_result()


def test_a_job_that_a_hook_has_ended_has_none_for_a_result(line):
    """Whatever the annotation says: the actor has returned nothing."""

    class Skip(Middleware):
        def before_process_message(self, broker, message):
            raise SkipMessage

    line.broker.add_middleware(Skip())

    def now() -> datetime: ...

    job = declare(line.broker, now).send()
    assert line.run(job).status is Status.SUCCEEDED
    assert job.get_result() is None


def test_an_async_actors_result_is_converted(line):
    """By what it returns, not by its coroutine."""

    async def now(day: date) -> date:
        return day

    job = declare(line.broker, now).send(date(2026, 1, 1))
    line.run(job)
    assert job.get_result() == date(2026, 1, 1)


def test_a_handle_that_was_looked_up_knows_its_actor(clock):
    """As the one that send() returned; without the actor, it is JSON."""
    taskq = TaskQ(clock=clock)

    @taskq.actor
    def home() -> Address:
        return Address("High Street", date(2026, 1, 1))

    app = make_app(taskq)
    with app.app_context():
        job = home.send()
        Line(taskq.broker).run(job)
        assert taskq.job(job.id).get_result() == Address("High Street", date(2026, 1, 1))
        del taskq.broker.actors["home"]
        assert taskq.job(job.id).get_result() == {
            "street": "High Street",
            "since": "2026-01-01",
        }
