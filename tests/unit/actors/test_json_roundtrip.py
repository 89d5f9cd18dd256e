"""What would be read back as another value is refused, with what to do instead."""

import collections
import dataclasses
import enum
import io
import sqlite3
from datetime import date
from datetime import datetime
from pathlib import Path
from typing import Any

import flask
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from sqlalchemy import orm
from werkzeug.datastructures import FileStorage
from werkzeug.datastructures import MultiDict
from werkzeug.local import LocalProxy

from flask_taskq import Status
from flask_taskq.actors.json_roundtrip import explain_change
from flask_taskq.errors import BadArguments
from flask_taskq.jobs.encoding import decode_value
from flask_taskq.jobs.encoding import encode_value
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_broker

DAY = date(2026, 1, 1)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


class Lazy:
    """Text that is translated when it is shown, as that of Flask-Babel."""

    def __html__(self) -> str:
        return "text"


class Awaited:
    """As what an async function gives when it is called."""

    def __await__(self) -> Any: ...


class Float64(float):
    """As NumPy's, which is a float as well."""

    def tolist(self) -> float:
        return float(self)


class Model:
    """As Pydantic's."""

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {}


class Plain(orm.DeclarativeBase):
    pass


class User(Plain):
    __tablename__ = "user"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)


class AsDataclass(orm.MappedAsDataclass, orm.DeclarativeBase):
    pass


class Order(AsDataclass):
    __tablename__ = "order"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)


Pair = collections.namedtuple("Pair", "a b")


def row_of_sqlite() -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("SELECT 1 AS a").fetchone()
    finally:
        connection.close()


def row_of_sqlalchemy() -> Any:
    engine = sqlalchemy.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text("SELECT 1 AS a")).fetchone()
    finally:
        engine.dispose()


#: What comes back as something else, and what the error says to do.
CHANGED = {
    "a MultiDict": (lambda: MultiDict({"a": "1"}), ".to_dict(flat=False)"),
    "a FileStorage": (FileStorage, "save the file, and send its path"),
    "a file": (io.BytesIO, "send the path of the file"),
    "a LocalProxy": (lambda: LocalProxy(lambda: "ann"), "send the value that it stands for"),
    "a proxy of nothing": (lambda: flask.request, "send the value that it stands for"),
    "a Response": (lambda: flask.Response("x"), "use the data that it was made of"),
    "a Row of sqlite3": (row_of_sqlite, "use dict(value)"),
    "a Row of SQLAlchemy": (row_of_sqlalchemy, "use dict(row._mapping)"),
    "a row of an ORM": (User, "send its id"),
    "a dataclass row of an ORM": (lambda: Order(id=1), "send its id"),
    "an OrderedDict": (collections.OrderedDict, "use dict(value)"),
    "a list of its own class": (lambda: type("L", (list,), {})(), "use list(value)"),
    "a Path": (lambda: Path("a"), "use str(value)"),
    "lazy text": (lambda: Lazy(), "use str(value)"),
    "a number of NumPy": (lambda: Float64(1), "use .tolist()"),
    "a model of Pydantic": (lambda: Model(), "use .model_dump(mode='json')"),
    "a Markup": (lambda: Markup("<b>"), "use str(value)"),
    "a named tuple": (lambda: Pair(1, 2), "use list(value) or value._asdict()"),
    "an Enum": (lambda: Colour.RED, "annotate it with Colour"),
    "a StrEnum": (lambda: Word.RED, "annotate it with Word"),
    "an IntEnum": (lambda: Level.HIGH, "annotate it with Level"),
    "a dataclass": (lambda: Point(1), "annotate it with Point"),
    "a date": (lambda: date(2026, 1, 1), "annotate it with date"),
    "bytes": (lambda: b"x", "annotate it with bytes"),
    "a set": (lambda: {1}, "annotate it with set"),
    "a view of a dict": (lambda: {"a": 1}.keys(), "use list(value)"),
    "a range": (lambda: range(3), "use list(value)"),
    "a generator": (lambda: (n for n in [1]), "use list(value)"),
    "a coroutine function's call": (lambda: Awaited(), "await it"),
    "a bytearray": (lambda: bytearray(b"x"), "use bytes(value)"),
    "a datetime of its own class": (
        lambda: type("Moment", (datetime,), {})(2026, 1, 1),
        "use datetime.fromisoformat(value.isoformat())",
    ),
    "a number as a key": (lambda: {1: "a"}, "use str(key)"),
    "an object": (object, "the id of it"),
    "a class": (lambda: Point, "the id of it"),
    "a function": (lambda: row_of_sqlite, "the id of it"),
}


@pytest.fixture
def line(clock):
    return Line(make_broker(clock))


@pytest.mark.parametrize("name", CHANGED)
def test_an_argument_that_would_change_is_refused(line, name):
    """Alone and deep inside of what JSON has; the text names the parameter and the place."""
    make, advice = CHANGED[name]
    actor = declare(line.broker, lambda it: None, actor_name="take")
    with pytest.raises(BadArguments, match="argument 'it' of actor 'take' is an? ") as caught:
        actor.send(make())
    assert advice in str(caught.value)
    with pytest.raises(BadArguments, match=r"has at \[...\]\[1\] an? ") as caught:
        actor.send({"a": [0, make()]})
    assert advice in str(caught.value)


@pytest.mark.parametrize("name", CHANGED)
def test_a_result_that_would_change_fails_the_job(line, name):
    """At once, with the code ``bad_result``."""
    make, advice = CHANGED[name]
    record = line.run(declare(line.broker, lambda: make(), actor_name="give").send())
    assert (record.status, record.error.code) == (Status.FAILED, "bad_result")
    assert "the result of actor 'give' is a" in record.error.message
    assert advice in record.error.message


@pytest.mark.parametrize("make", [User, lambda: Order(id=1)])
def test_a_row_is_no_value_even_where_it_is_annotated(line, make):
    """What came back would be no row of any session."""
    row = make()

    def take(it): ...

    for annotation in (type(row), list[type(row)]):
        take.__annotations__ = {"it": annotation}
        actor = declare(line.broker, take, actor_name=f"take{len(line.broker.actors)}")
        with pytest.raises(BadArguments, match="send its id"):
            actor.send(row if annotation is type(row) else [row])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_what_json_has_passes_and_comes_back(value):
    """Nothing that comes back as it was is refused."""
    assert explain_change(value, False) is None
    if "inf" not in repr(value):
        assert decode_value(encode_value(value)) == value


def test_a_tuple_comes_back_as_a_list(line):
    """The one change that is let pass, as in every JSON; an annotation makes it a tuple."""
    job = declare(line.broker, lambda pair: pair, actor_name="give").send((1, (2,)))
    line.run(job)
    assert job.get_result() == [1, [2]]


@pytest.mark.parametrize("annotation", [None, list, list[Any], dict[date, Any]], ids=str)
def test_what_contains_itself_is_refused(line, annotation):
    """Looking for a change ends, also where each level is twice as wide as the one above."""
    loop: list[Any] = []
    loop.extend([loop, loop])

    def take(it): ...

    take.__annotations__ = {} if annotation is None else {"it": annotation}
    actor = declare(line.broker, take)
    with pytest.raises(BadArguments, match="argument 'it' of actor 'take' .*nested"):
        actor.send({DAY: loop} if annotation == dict[date, Any] else loop)


def test_an_annotation_that_cannot_be_resolved_is_told(line):
    """A class that only type checkers import says nothing at run time."""

    def take(it: "Nowhere"): ...  # noqa: F821

    actor = declare(line.broker, take)
    with pytest.raises(BadArguments, match="'Nowhere' cannot be resolved"):
        actor.send(Point(1))


def test_the_text_has_neither_values_nor_keys(line):
    """They may be secrets."""
    actor = declare(line.broker, lambda it: None, actor_name="take")
    for value in ({"s3cret": {1}}, {("s3cret",): 1}, [object(), "s3cret"]):
        with pytest.raises(BadArguments) as caught:
            actor.send(value)
        assert "s3cret" not in str(caught.value)
