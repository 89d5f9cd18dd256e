"""How often a failing job runs again, and when."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskq import Status
from flask_taskq.middleware.retries import compute_backoff
from flask_taskq.middleware.retries import Retries
from tests.support.apps import declare
from tests.support.apps import Line

pytestmark = pytest.mark.needs("Retries")

DAY = 24 * 3600 * 1000


@pytest.fixture
def line(clock, new_broker):
    return Line(new_broker(clock))


def failing(line, **options):
    """An actor that fails each time."""

    @declare(line.broker, **options)
    def fail():
        raise ValueError("no")

    return fail


def delay_after(line, job):
    """In how many milliseconds the job runs again."""
    record = line.run(job)
    assert record.status is Status.SCHEDULED
    return record.scheduled_for - line.broker.clock.now()


# The computation

backoffs = st.integers(0, 30 * DAY)


@pytest.mark.every_engine
@given(retries=st.integers(0, 10_000), min_backoff=backoffs, max_backoff=backoffs)
def test_a_backoff_is_never_over_the_maximum(retries, min_backoff, max_backoff):
    """However many retries there have been, nothing overflows."""
    backoff = compute_backoff(retries, min_backoff=min_backoff, max_backoff=max_backoff)
    assert isinstance(backoff, int)
    assert 0 <= backoff <= max_backoff


@pytest.mark.every_engine
@given(retries=st.integers(0, 10), min_backoff=st.integers(0, 100_000))
def test_a_backoff_doubles_and_has_up_to_once_more_for_jitter(retries, min_backoff):
    """Below the maximum it is between the doubled minimum and twice that."""
    backoff = compute_backoff(retries, min_backoff=min_backoff, max_backoff=30 * DAY)
    assert min_backoff * 2**retries <= backoff <= min_backoff * 2 ** (retries + 1)


@given(retries=st.integers(10, 10_000), max_backoff=st.integers(1, 1_000_000))
def test_a_backoff_at_the_maximum_has_jitter_below_it(retries, max_backoff):
    """Jobs that failed together do not come back together."""
    backoff = compute_backoff(retries, min_backoff=1_000_000, max_backoff=max_backoff)
    assert max_backoff // 2 <= backoff <= max_backoff


@pytest.mark.parametrize("max_backoff", [10 * DAY, 1_000])
def test_a_backoff_differs_from_job_to_job(max_backoff):
    """With and without the maximum in the way."""
    found = {
        compute_backoff(3, min_backoff=15_000, max_backoff=max_backoff) for _ in range(100)
    }
    assert len(found) > 10


@given(retries=st.integers(0, 100))
def test_a_minimum_of_zero_is_no_wait(retries):
    """It is honoured and not taken for unset."""
    assert compute_backoff(retries, min_backoff=0, max_backoff=DAY) == 0


# The habit


def test_a_failed_job_runs_again_after_the_backoff(line, clock):
    """With the settings' own minimum at first."""
    job = failing(line).send()
    assert 15_000 <= delay_after(line, job) <= 30_000


def test_the_backoff_grows_with_each_run(line, clock):
    """It doubles."""
    job = failing(line).send()
    clock.advance(delay_after(line, job))
    assert 30_000 <= delay_after(line, job) <= 60_000


def test_a_job_whose_retries_are_used_up_fails(line, clock):
    """Three retries are four runs."""
    job = failing(line).send()
    for attempt in (1, 2, 3):
        clock.advance(delay_after(line, job))
        assert job.record.attempt == attempt
    record = line.run(job)
    assert (record.status, record.attempt, record.max_attempts) == (Status.FAILED, 4, 4)


def test_a_job_that_succeeds_at_last_has_no_error(line, clock):
    """The record tells how the job is, not how it was."""
    outcomes = iter([ValueError("no"), None])

    @declare(line.broker)
    def flaky():
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "yes"

    job = flaky.send()
    clock.advance(delay_after(line, job))
    record = line.run(job)
    assert (record.status, record.attempt, record.error) == (Status.SUCCEEDED, 2, None)


@pytest.mark.parametrize(
    ("settings", "actor", "message", "runs"),
    [
        (0, {}, {}, 1),
        (2, {}, {}, 3),
        (2, {"max_retries": 1}, {}, 2),
        (2, {"max_retries": 0}, {}, 1),
        (0, {"max_retries": 1}, {}, 2),
        (0, {"max_retries": 0}, {"max_retries": 1}, 2),
        (2, {"max_retries": 2}, {"max_retries": 0}, 1),
    ],
)
def test_a_messages_number_beats_the_actors_and_that_the_settings(
    clock, settings, actor, message, runs, new_broker
):
    """Zero is a number like any other."""
    line = Line(new_broker(clock, max_retries=settings, min_backoff=0))
    job = failing(line, **actor).send_with_options(**message)
    for _ in range(runs - 1):
        assert line.run(job).status is Status.SCHEDULED
    assert line.run(job).status is Status.FAILED


@pytest.mark.parametrize(
    ("settings", "actor", "message", "least"),
    [
        (100, {}, {}, 100),
        (100, {"min_backoff": 10_000}, {}, 10_000),
        (100, {"min_backoff": 10_000}, {"min_backoff": 1_000_000}, 1_000_000),
        (100, {"min_backoff": timedelta(seconds=10)}, {}, 10_000),
        (100, {"min_backoff": 10_000}, {"min_backoff": timedelta(minutes=10)}, 600_000),
        (100, {"min_backoff": 0}, {}, 0),
        (100, {"min_backoff": 10_000}, {"min_backoff": 0}, 0),
        (0, {}, {}, 0),
    ],
)
def test_a_messages_backoff_beats_the_actors_and_that_the_settings(
    clock, settings, actor, message, least, new_broker
):
    """Milliseconds or a timedelta; zero is honoured."""
    line = Line(new_broker(clock, min_backoff=settings))
    job = failing(line, **actor).send_with_options(**message)
    assert least <= delay_after(line, job) <= 2 * least


def test_a_messages_maximum_beats_the_actors(clock, line):
    """Zero means at once."""
    actor = failing(line, max_backoff=5_000)
    assert 2_500 <= delay_after(line, actor.send()) <= 5_000
    clock.advance(5_000)
    line.run_next()
    assert delay_after(line, actor.send_with_options(max_backoff=0)) == 0


def test_retries_without_a_limit_go_on(clock, new_broker):
    """None is no limit."""
    line = Line(new_broker(clock, max_retries=None, min_backoff=0))
    job = failing(line).send()
    for attempt in range(1, 30):
        assert line.run(job).attempt == attempt
    assert (job.status, job.record.max_attempts) == (Status.SCHEDULED, None)


def test_what_the_middleware_is_given_beats_the_settings(clock, new_broker):
    """Small explicit values, 0 included, are honoured."""
    retries = Retries(max_retries=1, min_backoff=0)
    line = Line(new_broker(clock, retries, habits=(), max_retries=3))
    job = failing(line).send()
    assert delay_after(line, job) == 0
    assert line.run(job).status is Status.FAILED


def test_without_the_middleware_a_failed_job_fails(clock, new_broker):
    """The rest works as if retries did not exist."""
    line = Line(new_broker(clock, habits=()))
    job = failing(line).send()
    record = line.run(job)
    assert (record.status, record.max_attempts) == (Status.FAILED, 1)


def test_another_job_runs_while_one_waits_for_its_retry(line):
    """A backoff holds no thread."""
    waiting = failing(line).send()
    line.run(waiting)
    other = declare(line.broker, lambda: 1, actor_name="other").send()
    assert line.run(other).status is Status.SUCCEEDED
    assert waiting.refresh().status is Status.SCHEDULED


# What cannot work

BAD = [
    ("max_retries", "3"),
    ("max_retries", -1),
    ("max_retries", 1.5),
    ("max_retries", True),
    ("max_retries", float("inf")),
    ("min_backoff", 1.5),
    ("min_backoff", -1),
    ("max_backoff", "7d"),
    ("max_backoff", timedelta(-1)),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_that_cannot_work_is_refused_at_declaration(line, name, value):
    """The error names actor and option; else it would show when the job has failed."""
    with pytest.raises(ValueError, match=f"actor 'fail': {name} is .*; it is "):
        failing(line, **{name: value})
    assert line.broker.get_declared_actors() == set()


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_that_cannot_work_is_refused_at_send(line, name, value):
    """Nothing is stored."""
    fail = failing(line)
    with pytest.raises(ValueError, match=f"message for actor 'fail': {name} is .*; it is "):
        fail.send_with_options(**{name: value})
    assert line.engine.queues.depths() == {}


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_that_cannot_work_is_refused_by_the_middleware(name, value):
    """It is the default of all actors."""
    with pytest.raises(ValueError, match=name):
        Retries(**{name: value})


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": 0},
        {"max_retries": None},
        {"min_backoff": 0, "max_backoff": 0},
        {"min_backoff": timedelta(seconds=1), "max_backoff": timedelta(days=1)},
    ],
    ids=str,
)
def test_what_can_work_is_taken(line, options):
    """Both at declaration and at send; zero is a number like others."""
    failing(line, **options).send_with_options(**options)
