"""What is enqueued, asserted and refuted, and the text that a failure shows."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import date
from datetime import timedelta
from unittest.mock import ANY

import pytest

from flask_taskq import GenericActor
from flask_taskq.errors import ActorNotFound
from flask_taskq.errors import BadArguments


@dataclass
class Period:
    first: date


@pytest.fixture
def mail(taskq):
    @taskq.actor(queue_name="mail")
    def send_mail(to, subject="Hello", *names, body=None, **headers):
        pass

    return send_mail


@pytest.fixture
def send(app, mail):
    def send(*args, **kwargs):
        with app.app_context():
            return mail.send(*args, **kwargs)

    return send


def failure(assertion, *args, **kwargs):
    """The text with which an assertion fails, as an indented literal would have it."""
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **kwargs)
    return str(caught.value)


def text(literal):
    return textwrap.dedent(literal).strip()


# What fits


def test_a_job_is_found_by_its_actor(jobs, mail, send):
    """The assertion returns it."""
    sent = send("ann")
    assert jobs.assert_enqueued(mail).id == sent.id


def test_an_actor_can_be_given_by_its_name(jobs, send):
    """For those that a test cannot import."""
    sent = send("ann")
    assert jobs.assert_enqueued("send_mail").id == sent.id


def test_an_actor_can_be_a_class(jobs, taskq, app):
    """It is what was declared."""

    class Add(GenericActor, taskq=taskq):
        def perform(self, a, b):
            return a + b

    jobs.refute_enqueued(Add)
    with app.app_context():
        Add.send(1, b=2)
    jobs.assert_enqueued(Add, args=(1, 2))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((("ann",), {}), {"args": ("ann",)}),
        ((("ann",), {}), {"kwargs": {"to": "ann"}}),
        (((), {"to": "ann"}), {"args": ("ann",)}),
        ((("ann", "Hi"), {"body": 1}), {"kwargs": {"subject": "Hi"}}),
        ((("ann",), {}), {"kwargs": {"subject": "Hello", "body": None}}),
        ((("ann",), {"body": 1}), {"args": ["ann"]}),
        ((("ann", "Hello"), {}), {"args": ("ann",)}),
        ((("ann",), {"subject": "Hello"}), {"args": ("ann",)}),
        ((("ann",), {}), {"args": ("ann", "Hello")}),
        ((("ann", "Hi", "x", "y"), {}), {"args": ("ann", "Hi", "x", "y")}),
        ((("ann",), {"reply": "bob"}), {"kwargs": {"reply": "bob"}}),
        ((("ann",), {"body": (1, "2026-01-02")}), {"kwargs": {"body": [1, "2026-01-02"]}}),
        ((("ann",), {"body": [1, "2026-01-02"]}), {"kwargs": {"body": (1, date(2026, 1, 2))}}),
        ((("ann",), {"body": {"1": [2.0]}}), {"kwargs": {"body": {"1": [pytest.approx(2)]}}}),
        ((("ann",), {"body": {"x": 5}}), {"args": (ANY,), "kwargs": {"body": {"x": ANY}}}),
    ],
)
def test_arguments_fit_however_they_were_given(jobs, mail, send, sent, expected):
    """By position, by name, or left out; as values, or as JSON has them."""
    args, kwargs = sent
    send(*args, **kwargs)
    jobs.assert_enqueued(mail, **expected)
    with pytest.raises(AssertionError):
        jobs.refute_enqueued(mail, **expected)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((("ann",), {}), {"args": ("bob",)}),
        ((("ann",), {}), {"args": ()}),
        ((("ann", "Hi"), {}), {"args": ("ann",)}),
        ((("ann",), {"subject": "Hi"}), {"args": ("ann",)}),
        ((("ann",), {}), {"args": ("ann", "Hi")}),
        ((("ann",), {}), {"kwargs": {"subject": "Hi"}}),
        ((("ann",), {}), {"kwargs": {"reply": "bob"}}),
        ((("ann", "Hi", "x"), {}), {"args": ("ann", "Hi", "y")}),
        ((("ann", "Hi", "x"), {}), {"args": ("ann", "Hi")}),
        ((("ann",), {"body": 1}), {"kwargs": {"body": "1"}}),
        ((("ann",), {}), {"queue": "default"}),
        ((("ann",), {}), {"delay": 1}),
    ],
)
def test_a_job_that_differs_does_not_fit(jobs, mail, send, sent, expected):
    """In one part."""
    args, kwargs = sent
    send(*args, **kwargs)
    jobs.refute_enqueued(mail, **expected)
    with pytest.raises(AssertionError):
        jobs.assert_enqueued(mail, **expected)


def test_dataclasses_fit_what_they_were_written_as(jobs, taskq, app):
    """As arguments that an annotation converts back."""

    @taskq.actor
    def close(period: Period):
        pass

    with app.app_context():
        close.send(Period(date(2026, 1, 1)))
    jobs.assert_enqueued(close, args=(Period(date(2026, 1, 1)),))
    jobs.refute_enqueued(close, args=(Period(date(2026, 1, 2)),))


@pytest.mark.parametrize("delay", [60_000, timedelta(minutes=1)])
def test_a_delay_is_what_the_job_was_sent_with(jobs, taskq, app, note, delay):
    """Also by the broker, and also when it is over."""
    note(1, delay=delay)
    jobs.assert_enqueued("note", delay=60_000)
    jobs.assert_enqueued("note", delay=timedelta(minutes=1))
    jobs.refute_enqueued("note", delay=0)
    jobs.advance(60_000)
    jobs.assert_enqueued("note", delay=60_000)
    message = taskq.broker_for(app).get_actor("note").message(2)
    taskq.broker_for(app).enqueue(message, delay=5_000)
    jobs.assert_enqueued("note", args=(2,), delay=5_000)


def test_the_delay_of_an_eta_is_what_was_left(jobs, note):
    """From the moment of sending."""
    job = note(1, eta=jobs.clock.now() + 3_600_000)
    delay = job.record.scheduled_for - job.record.created_at
    jobs.assert_enqueued("note", delay=delay)
    jobs.advance(3_600_000)
    jobs.assert_enqueued("note", delay=delay)


@pytest.mark.needs("Retries")
def test_a_job_that_waits_for_its_retry_is_enqueued_and_was_not_delayed(jobs, note):
    """It will run, if nothing else happens."""
    note(1)
    jobs.fail_next(ValueError)
    jobs.run_next()
    jobs.assert_enqueued("note", args=(1,), delay=0)


def test_the_number_of_jobs_can_be_asserted(jobs, note):
    """By default it is any."""
    note(1)
    note(1)
    jobs.assert_enqueued("note")
    jobs.assert_enqueued("note", count=2)
    with pytest.raises(ValueError, match="there is refute_enqueued"):
        jobs.assert_enqueued("note", count=0)


def test_enqueued_lists_what_waits_in_the_order_of_sending(jobs, note, send):
    """All, or those of an actor or a queue, with their arguments."""
    note(1, delay=5)
    send("ann", body={"a": 1})
    note(2, priority=-1)
    assert [str(job.message) for job in jobs.enqueued()] == [
        "note(1)",
        "send_mail('ann', body={'a': 1})",
        "note(2)",
    ]
    assert [job.message.args for job in jobs.enqueued("note")] == [(1,), (2,)]
    assert [job.message.args for job in jobs.enqueued(queue="mail")] == [("ann",)]
    assert jobs.enqueued("note", queue="mail") == []


@pytest.mark.parametrize("method", ["assert_enqueued", "refute_enqueued", "enqueued"])
def test_an_actor_that_the_app_has_not_is_an_error(jobs, method):
    """A name with a slip in it would make every refusal pass."""
    with pytest.raises(ActorNotFound, match="no actor is named 'send_mial'"):
        getattr(jobs, method)("send_mial")


@pytest.mark.parametrize("method", ["assert_enqueued", "refute_enqueued"])
def test_arguments_that_no_job_can_have_are_an_error(jobs, note, method):
    """For the same reason."""
    with pytest.raises(
        BadArguments, match=r"actor 'note' takes \(value=None, \*, loud=False\)"
    ):
        getattr(jobs, method)("note", kwargs={"lout": True})


# What a failure shows


def test_a_failure_shows_the_nearest_job_first_with_what_differs(jobs, mail, send, note):
    """Part by part; the parts that are as expected are not there."""
    note(3)
    send("ann@example.com", "Hi", body={"a": 1})
    send("bob@example.com", "Hello")
    found = failure(
        jobs.assert_enqueued, mail, args=("bob@example.com",), kwargs={"body": {"a": 2}}
    )
    assert found == text(
        """
        not enqueued: send_mail('bob@example.com', body={'a': 2})

        This is enqueued, the nearest first (- is expected, + is enqueued):

            send_mail('bob@example.com', 'Hello')  queued in 'mail'
              body:
                - {'a': 2}
                + None

            send_mail('ann@example.com', 'Hi', body={'a': 1})  queued in 'mail'
              to:
                - 'bob@example.com'
                ?  ^^^
                + 'ann@example.com'
                ?  ^^^
              body:
                - {'a': 2}
                ?       ^
                + {'a': 1}
                ?       ^
              subject:
                - 'Hello'
                + 'Hi'

            note(3)  queued in 'default'
              actor:
                - 'send_mail'
                + 'note'
        """
    )


def test_a_failure_shows_queue_and_delay(jobs, note):
    """Where they were asked for."""
    note(3, delay=5_000)
    assert failure(jobs.assert_enqueued, "note", queue="fast", delay=60_000) == text(
        """
        not enqueued: note(...)  in queue 'fast', after 60,000 ms

        This is enqueued, the nearest first (- is expected, + is enqueued):

            note(3)  scheduled in 'default'
              queue:
                - 'fast'
                + 'default'
              delay:
                - 60000
                + 5000
        """
    )


def test_a_failure_says_that_nothing_is_enqueued(jobs, note):
    """A view that forgot to send is the most common one."""
    assert failure(jobs.assert_enqueued, "note", args=(1,)) == text(
        """
        not enqueued: note(1)

        Nothing at all is enqueued.
        """
    )


def test_a_failure_tells_of_a_job_that_has_run_already(jobs, note):
    """Then it is the test that comes too late."""
    note(1)
    jobs.drain()
    note(2)
    assert failure(jobs.assert_enqueued, "note", args=(1,)) == text(
        """
        not enqueued: note(1)

        It was, and has left the queue:

            note(1)  succeeded in 'default'

        This is enqueued, the nearest first (- is expected, + is enqueued):

            note(2)  queued in 'default'
              value:
                - 1
                + 2
        """
    )


def test_a_failure_shows_some_of_many_jobs(jobs, note):
    """The screen is for the nearest ones."""
    for value in range(9):
        note(value)
    lines = failure(jobs.assert_enqueued, "note", args=(10,)).splitlines()
    assert len([line for line in lines if "note(" in line]) == 1 + 5
    assert lines[-1] == "    ... and 4 more"


def test_a_failure_shows_where_a_long_value_differs(jobs, note):
    """Those lines and their neighbors, and not the whole of it twice."""
    long = {f"key {n}": n for n in range(100)}
    note(long)
    found = failure(jobs.assert_enqueued, "note", args=({**long, "key 90": 5},))
    assert found.endswith(
        textwrap.indent(
            text(
                """
                value:
                  ...
                     'key 89': 89,
                  -  'key 90': 5,
                  ?            ^
                  +  'key 90': 90,
                  ?            ^^
                     'key 91': 91,
                  ...
                """
            ),
            "      ",
        )
    )
    assert max(map(len, found.splitlines()[1:])) < 250


def test_a_failure_shows_no_end_of_differences(jobs, note):
    """A value that differs everywhere is cut."""
    note({f"key {n}": n for n in range(100)})
    found = failure(jobs.assert_enqueued, "note", args=({f"key {n}": -1 for n in range(100)},))
    assert len(found.splitlines()) < 40
    assert found.endswith("        ...")


def test_a_failed_count_shows_what_there_is(jobs, note):
    """Too few, or too many."""
    note(1)
    assert failure(jobs.assert_enqueued, "note", count=2) == text(
        """
        enqueued once and not 2 times: note(...)

            note(1)  queued in 'default'
        """
    )
    note(2)
    assert failure(jobs.assert_enqueued, "note", count=1) == text(
        """
        enqueued 2 times and not once: note(...)

            note(1)  queued in 'default'
            note(2)  queued in 'default'
        """
    )


def test_a_failed_refusal_shows_what_there_is(jobs, note):
    """Only that which is not to be there."""
    note(1)
    note(2)
    assert failure(jobs.refute_enqueued, "note", args=(2,)) == text(
        """
        enqueued, though it should not be: note(2)

            note(2)  queued in 'default'
        """
    )
