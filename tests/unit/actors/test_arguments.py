"""Arguments are checked when they are sent: whether they fit the function and its annotations,
and whether they come as they are."""

import dataclasses
import decimal
import enum
import functools
import uuid
from collections.abc import Sequence
from datetime import date
from datetime import datetime
from typing import Annotated
from typing import Any
from typing import Literal
from typing import TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from flask_taskq import Status
from flask_taskq.actors.arguments import Arguments
from flask_taskq.errors import BadArguments
from flask_taskq.worker.runner import Runner
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_broker

DAY = date(2026, 1, 1)


class Colour(enum.Enum):
    RED = "red"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Period:
    first: date
    days: int = 1


class Price(msgspec.Struct):
    amount: int


class Form(TypedDict):
    month: int


class Text(str):
    """Text of a class of its own."""


@pytest.fixture
def line(clock):
    return Line(make_broker(clock))


def take(line, annotation, **options):
    """An actor with a parameter of this annotation."""

    def take(it):
        return None

    take.__annotations__ = {"it": annotation}
    return declare(line.broker, take, **options)


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (int, "3", "expected int, got str"),
        (int, True, "expected int, got bool"),
        (int, 3.0, "expected int, got float"),
        (int, None, "expected int, got None"),
        (int, DAY, "expected int, got date"),
        (str, None, "expected str, got None"),
        (str, 3, "expected str, got int"),
        (bool, 1, "expected bool, got int"),
        (float, "1.5", "expected float, got str"),
        (date, "tomorrow", "expected date, got str"),
        (date, "2026-01-01", "expected date, got str"),
        (date, datetime(2026, 1, 1), "expected date, got datetime"),
        (datetime, DAY, "expected datetime, got date"),
        (datetime, 1_767_225_600, "expected datetime, got int"),
        (uuid.UUID, "a" * 32, "expected uuid, got str"),
        (decimal.Decimal, 1.5, "expected decimal, got float"),
        (bytes, "text", "expected bytes, got str"),
        (int | None, "3", "expected int | None, got str"),
        (list[int], [1, "2"], "expected int, got str at it[1]"),
        (list[int], {1}, "a set, and would not come back as one unless its annotation says so"),
        (dict[str, int], {"a": "b"}, "expected int, got str at it[...]"),
        (Literal["a", "b"], "c", "Invalid enum value"),
        (Annotated[int, msgspec.Meta(gt=0)], 0, "expected int >= 1"),
        (Form, {"month": "3"}, "expected int, got str at it.month"),
        (Colour, "red", "expected Colour, got str"),
        (Period, {"first": "2026-01-01"}, "expected date, got str at it.first"),
        (Period, {"first": DAY}, "expected Period, got dict"),
        (Period, Period("2026-01-01"), "expected date, got str at it.first"),
        (Period, Period(DAY, "x"), "expected int, got str at it.days"),
        (Price, Price("x"), "expected int, got str at it.amount"),
        (list[Period], [{"first": DAY}], "expected Period, got dict at it[0]"),
        (tuple[int, int], [1, 2, 3], "expected array of length 2, got 3"),
    ],
    ids=str,
)
def test_an_argument_that_does_not_fit_its_annotation_is_refused(line, annotation, value, told):
    """In the view that sends it. The text names the actor, the parameter, what was expected
    and what came; by position and by name."""
    actor = take(line, annotation)
    for send in (lambda: actor.send(value), lambda: actor.send(it=value)):
        with pytest.raises(BadArguments) as caught:
            send()
        assert str(caught.value).startswith("argument 'it' of actor 'take' ")
        assert told in str(caught.value)
    assert line.engine.queues.depths() == {}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 3),
        (float, 3),
        (float, 3.5),
        (bool, True),
        (int | None, None),
        (None, None),
        (date, DAY),
        (Colour, Colour.RED),
        (Access, Access.READ | Access.WRITE),
        (Period, Period(DAY)),
        (Price, Price(3)),
        (list[Period], [Period(DAY), Period(DAY, 3)]),
        (list[int], [1, 2]),
        (list[int], (1, 2)),
        (tuple[int, int], [1, 2]),
        (tuple[int, ...], (1, 2)),
        (Sequence[int], (1, 2)),
        (set[int], {1}),
        (dict[int, str], {1: "a"}),
        (dict, {"a": [1, {"b": None}]}),
        (Form, {"month": 3}),
        (Literal["a", "b"], "a"),
        (Annotated[int, msgspec.Meta(gt=0)], 1),
        (Any, [1, "2", None]),
        (object, "x"),
    ],
    ids=str,
)
def test_an_argument_that_fits_its_annotation_is_sent(line, annotation, value):
    """And the worker calls the actor with it."""
    assert line.run(take(line, annotation).send(value)).status is Status.SUCCEEDED


def test_text_of_a_form_is_told_how_to_become_a_number(line):
    """The commonest of these mistakes."""
    with pytest.raises(BadArguments, match=r"text of a form or a URL .*int\(value\)"):
        take(line, int).send("3")


def test_the_text_has_no_values(line):
    """They may be secrets."""
    for number, annotation in enumerate((int, date, dict[str, int], Literal["a"], Colour)):
        with pytest.raises(BadArguments) as caught:
            take(line, annotation, actor_name=f"take{number}").send("s3cret")
        assert "s3cret" not in str(caught.value)


def test_types_are_not_checked_where_the_actor_wants_no_checks(line):
    """What would come as something else is refused all the same."""
    actor = take(line, int, check_types=False)
    assert line.run(actor.send("3")).status is Status.SUCCEEDED
    with pytest.raises(BadArguments, match="'it'.*Text"):
        actor.send(Text("3"))


def test_every_parameter_is_checked(line):
    """Also those that take any number of arguments."""

    def visit(a: int, /, b: int, *rest: int, c: int = 0, **others: int): ...

    actor = declare(line.broker, visit)
    actor.send(1, 2, 3, c=4, d=5)
    for args, kwargs, name in [
        (("x", 2), {}, "a"),
        ((1, "x"), {}, "b"),
        ((1, 2, 3, "x"), {}, "rest"),
        ((1,), {"b": "x"}, "b"),
        ((1, 2), {"c": "x"}, "c"),
        ((1, 2), {"d": "x"}, "d"),
    ]:
        with pytest.raises(BadArguments, match=f"argument '{name}' of actor 'visit'"):
            actor.send(*args, **kwargs)


def test_messages_of_a_batch_are_checked_before_one_is_stored(line):
    """All of them or none."""
    actor = take(line, int)
    with pytest.raises(BadArguments, match="'it'"):
        line.broker.enqueue_many([actor.message(1), actor.message("2")])
    assert line.engine.queues.depths() == {}


@pytest.mark.needs("Callbacks")
def test_a_callbacks_arguments_are_checked(line, caplog):
    """It is sent by a hook, and not stored: the outcome that it was to hear of stands."""

    def told(message: dict, result: int): ...

    told = declare(line.broker, told)
    job = declare(line.broker, lambda: "text", actor_name="work", on_success=told).send()
    assert line.run(job).status is Status.SUCCEEDED
    assert "argument 'result' of actor 'told'" in caplog.text
    assert line.engine.queues.depths() == {}


def test_names_of_parameters_may_be_any(line):
    """``self`` too, as in a task that was bound in Celery."""

    def remind(self, args, kwargs, message, fn, actor, name, delay): ...

    actor = declare(line.broker, remind)
    values = dict.fromkeys(actor.parameters, 1)
    for job in (actor.send(**values), actor.send_with_options(kwargs=values)):
        assert line.run(job).status is Status.SUCCEEDED
        assert job.message.kwargs == values


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {"x": 1}, "it has no parameter 'x'"),
        ((1,), {"secondary": 1}, "it has no parameter 'secondary'; did you mean 'second'?"),
        ((), {}, "without 'first' and 'second'"),
        ((1, 2, 3), {}, "3 arguments by position are too many"),
        ((1,), {"first": 1, "second": 2}, "'first' is given twice, by position and by name"),
    ],
)
def test_what_is_wrong_with_a_call_is_told_by_its_cause(line, args, kwargs, told):
    """A wrong name is not told as a parameter that is missing."""
    actor = declare(line.broker, lambda first, second: None, actor_name="add")
    with pytest.raises(BadArguments) as caught:
        actor.send(*args, **kwargs)
    assert str(caught.value) == f"actor 'add' takes (first, second): {told}"


def test_a_parameter_by_position_only_is_told(line):
    """It has that name, and cannot be given by it."""
    actor = declare(line.broker, lambda first, /: None, actor_name="add")
    with pytest.raises(BadArguments, match="'first' is given by position only"):
        actor.send(first=1)


@dataclasses.dataclass
class Doubled:
    """Changes what it is made of."""

    it: int

    def __post_init__(self):
        self.it *= 2


@dataclasses.dataclass
class Picky:
    """Cannot be made of what it was made of."""

    it: int

    def __post_init__(self):
        if self.it < 0:
            raise KeyError("s3cret")


@dataclasses.dataclass
class Open:
    it: Any


class Tree(TypedDict):
    children: list["Tree"]


class Half(enum.Enum):
    HALF = 0.5


def negative():
    picky = Picky(1)
    picky.it = -1
    return picky


HOUR_THAT_COMES_TWICE = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (Doubled, Doubled(1), "another int would come back at it.it"),
        (Picky, negative(), "reading it raised KeyError"),
        (Open, Open(DAY), "a date would come back as a str at it.it"),
        (list[Open], [Open({1: 2})], "an int would come back as a str at it[0].it[...]"),
        (dict[int | str, Colour], {1: Colour.RED}, "an int would come back as a str"),
        (frozenset[int], {1}, "expected frozenset, got set"),
    ],
    ids=str,
)
def test_what_an_annotation_would_read_back_as_something_else_is_refused(
    line, annotation, value, told
):
    """The types fit, and the value would change all the same."""
    with pytest.raises(BadArguments) as caught:
        take(line, annotation).send(value)
    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Tree, {"children": [{"children": []}]}),
        (Form, {"month": 1, "not in the class": 2}),
        (dict[str, list[int]], {"a": (1, 2)}),
        (list[decimal.Decimal], [decimal.Decimal("NaN"), decimal.Decimal("sNaN")]),
        (list[datetime], [HOUR_THAT_COMES_TWICE]),
    ],
    ids=lambda it: str(it)[:40],
)
def test_what_comes_back_as_it_was_is_sent(line, annotation, value):
    """Also what equals nothing, or has more than its annotation says."""
    assert line.run(take(line, annotation).send(value)).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (datetime | str, DAY, "may not contain more than one str-like type"),
        (Half, Half.HALF, "Enums must contain either all str or all int values"),
        (object, DAY, "no value of object can be made of JSON"),
    ],
    ids=str,
)
def test_the_text_tells_why_an_annotation_says_nothing(line, annotation, value, told):
    """An annotation is there: advice to write one would not help."""
    with pytest.raises(BadArguments, match=f"its annotation says nothing: .*{told}"):
        take(line, annotation).send(value)


def test_a_class_that_fails_when_it_is_read_is_the_jobs_misfit(line):
    """In a worker, whose process and other jobs do not notice."""
    actor = take(line, Picky)
    job = actor.send(Picky(1))
    job_id = line.put(job.message.copy(message_id="a" * 32, args=({"it": -1},)))
    assert line.run(job).status is Status.SUCCEEDED
    line.runner = Runner(line.broker, may_release=False)
    line.run_next()
    error = line.record(job_id).error
    assert (error.code, error.type) == ("bad_arguments", "BadArguments")
    assert "does not fit its annotation Picky: reading it raised KeyError" in error.message
    assert "s3cret" not in error.traceback


def in_a_module_of_its_own(source):
    """What ``source`` calls ``fn``; its annotations are text, and its names are its own."""
    names = {}
    exec("from __future__ import annotations\nfrom datetime import date\n" + source, names)
    return names["fn"]


PLAIN = "def plain(day: date): return day.year\n"


@pytest.mark.parametrize(
    "source",
    [
        PLAIN + "fn = plain",
        PLAIN + "import functools; fn = functools.partial(plain)",
        PLAIN + "import functools; fn = functools.lru_cache(plain)",
        PLAIN + "import functools; fn = functools.wraps(plain)(lambda *args: plain(*args))",
        "class Callable:\n def __call__(self, day: date): return day.year\nfn = Callable()",
        "class Bound:\n def day(self, day: date): return day.year\nfn = Bound().day",
    ],
    ids=["function", "partial", "lru_cache", "wraps", "object", "method"],
)
def test_whatever_can_be_called_can_be_an_actor(line, source):
    """Its annotations are read with the names of where they were written."""
    actor = declare(line.broker, in_a_module_of_its_own(source), actor_name="take")
    assert line.run(actor.send(DAY)).result == b"2026"
    with pytest.raises(BadArguments, match="expected date, got str"):
        actor.send("2026")


def test_keywords_whose_names_have_several_values_are_refused(line):
    """The form of a request: all values but the first would be lost."""
    actor = declare(line.broker, lambda **fields: None, actor_name="take")
    form = MultiDict([("tag", "a"), ("tag", "b")])
    with pytest.raises(BadArguments, match=r"kwargs .* MultiDict.*\.to_dict\(flat=False\)"):
        actor.send_with_options(kwargs=form)
    assert line.run(actor.send_with_options(kwargs=form.to_dict(flat=False)))


# Decorators


def giving(*added, **named):
    """A decorator that calls its function with more."""

    def decorate(fn):
        @functools.wraps(fn)
        def wrapper(*args, **kwargs):
            return fn(*added, *args, **named, **kwargs)

        return wrapper

    return decorate


def test_a_decorator_may_supply_an_argument_by_position(line):
    """The call works, and so the message does."""
    actor = declare(
        line.broker, giving("session")(lambda session, order: order), actor_name="a"
    )
    for job in (actor.send(7), actor.send(order=7)):
        assert line.run(job).result == b"7"


def test_a_decorator_may_supply_an_argument_by_name(line):
    """Likewise."""
    actor = declare(
        line.broker,
        giving(tenant="acme")(lambda order, tenant: [order, tenant]),
        actor_name="a",
    )
    assert line.run(actor.send(7)).result == b'[7,"acme"]'


def test_arguments_beside_a_supplied_one_are_not_held_against_its_annotation(line):
    """Nobody knows which place they have. By name they are checked, and converted."""

    def bill(tenant: str, order: int, day: date | None = None) -> list[str]:
        return [tenant, str(order), str(day)]

    actor = declare(line.broker, giving("acme")(bill), actor_name="bill")
    assert line.run(actor.send(7)).result == b'["acme","7","None"]'
    job = actor.send(order=7, day=DAY)
    assert line.run(job).result == b'["acme","7","2026-01-01"]'
    with pytest.raises(BadArguments, match="'order' of actor 'bill'"):
        actor.send(order="7")


def test_a_decorator_that_adds_nothing_hides_nothing(line):
    """The function's own signature and annotations hold."""

    def plain(order: int): ...

    actor = declare(line.broker, giving()(plain), actor_name="plain")
    assert line.run(actor.send(7)).status is Status.SUCCEEDED
    for args, kwargs in [((7, 8), {}), ((), {"other": 1}), (("7",), {})]:
        with pytest.raises(BadArguments, match="actor 'plain'"):
            actor.send(*args, **kwargs)


def test_the_own_signature_of_a_decorator_holds_too(line):
    """What it does not take never reaches the function."""

    def narrow(fn):
        @functools.wraps(fn)
        def wrapper(order):
            return fn(order, "acme")

        return wrapper

    actor = declare(line.broker, narrow(lambda order, tenant: [order, tenant]), actor_name="a")
    assert line.run(actor.send(7)).result == b'[7,"acme"]'
    with pytest.raises(BadArguments, match="tenant"):
        actor.send(7, tenant="other")


SIGNATURES = [
    lambda: None,
    lambda a: None,
    lambda a, b=2: None,
    lambda a, /, b: None,
    lambda a=1, /: None,
    lambda *a: None,
    lambda a, *b: None,
    lambda a, *, b: None,
    lambda a, *, b=1: None,
    lambda **a: None,
    lambda a, /, **b: None,
    lambda a, b=1, *c, d, e=2, **f: None,
]


@given(
    st.sampled_from(SIGNATURES),
    st.lists(st.just(1), max_size=4),
    st.dictionaries(st.sampled_from("abcdefg"), st.just(1), max_size=4),
)
def test_arguments_fit_where_the_call_would(fn, args, kwargs):
    """The short cuts for plain calls decide as a call does."""
    try:
        fn(*args, **kwargs)
    except TypeError:
        with pytest.raises(BadArguments, match="actor 'a' takes"):
            Arguments(fn, "a").check(args, kwargs)
    else:
        Arguments(fn, "a").check(args, kwargs)
