"""When, how urgently and by which queue a job runs, told with each call."""

from datetime import datetime
from datetime import timedelta
from datetime import timezone
from datetime import UTC

import pytest

from flask_taskq import Status
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import Watcher


@pytest.fixture
def broker(new_broker, clock):
    return new_broker(clock)


@pytest.fixture
def line(broker):
    return Line(broker)


@pytest.fixture
def note(broker):
    """An actor with a queue and a priority of its own."""
    return declare(broker, lambda n=0: n, actor_name="note", queue_name="slow", priority=3)


def at(clock, **time):
    return datetime.fromtimestamp(clock.now() / 1000, UTC) + timedelta(**time)


@pytest.mark.every_engine
def test_without_options_the_actors_own_hold(note):
    """Nothing of it travels."""
    record = note.send_with_options(args=(1,)).refresh().record
    assert (record.queue, record.priority, record.status) == ("slow", 3, Status.QUEUED)
    assert note.message_with_options(args=(1,)).options == {}


@pytest.mark.every_engine
def test_a_priority_of_the_call_wins_over_the_actors(note, line):
    """Zero is one, too; order is by it."""
    jobs = [note.send_with_options(priority=priority) for priority in (9, 0, -9)]
    assert [job.refresh().record.priority for job in jobs] == [9, 0, -9]
    order = [line.run_next().delivery.id for _ in jobs]
    assert order == [job.id for job in reversed(jobs)]


def test_a_queue_of_the_call_wins_over_the_actors(note, broker):
    """It is known from then on, so that what drains this process finds it."""
    job = note.send_with_options(queue_name="fast")
    assert job.refresh().record.queue == "fast"
    assert broker.get_declared_queues() == {"slow", "fast"}


@pytest.mark.parametrize("form", ["milliseconds", "utc", "elsewhere"])
def test_an_eta_is_a_moment(note, clock, form):
    """Given as one has it."""
    moment = at(clock, minutes=1)
    eta = {
        "milliseconds": clock.now() + 60_000,
        "utc": moment,
        "elsewhere": moment.astimezone(timezone(timedelta(hours=-5))),
    }[form]
    job = note.send_with_options(eta=eta)
    assert (job.status, job.record.scheduled_for) == (Status.SCHEDULED, clock.now() + 60_000)
    assert job.refresh().record.scheduled_for == clock.now() + 60_000


def test_an_eta_between_two_milliseconds_is_not_early(note):
    """It is rounded up."""
    moment = datetime(2026, 1, 1, 0, 0, 0, 1, UTC)
    options = note.message_with_options(eta=moment).options
    assert options["eta"] == datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000 + 1


def test_an_eta_that_is_over_is_now(note, clock):
    """A late job is better than none."""
    assert note.send_with_options(eta=at(clock, hours=-1)).refresh().status == "queued"


def test_an_eta_without_a_time_zone_is_refused(note):
    """It would be another moment on another machine; the error says what to do."""
    with pytest.raises(ValueError, match=r"without a time zone.*datetime\.now\(UTC\)"):
        note.send_with_options(eta=datetime(2026, 1, 1))


@pytest.mark.parametrize("eta", ["2026-01-01", 1.5e12, timedelta(1)])
def test_an_eta_of_another_type_is_refused(note, eta):
    """The text says which ones there are."""
    with pytest.raises(
        TypeError, match="eta of a message for actor 'note' is .*aware datetime"
    ):
        note.send_with_options(eta=eta)


def test_delay_and_eta_together_are_refused(note, broker, clock):
    """They contradict each other, also in a message that was made by hand."""
    with pytest.raises(ValueError, match="a delay or an eta"):
        note.message_with_options(delay=0, eta=clock.now())
    message = note.message().copy(options={"delay": 1, "eta": 1})
    with pytest.raises(ValueError, match="a delay or an eta"):
        broker.enqueue(message)


@pytest.mark.parametrize(
    "options",
    [{"priority": 10}, {"priority": "high"}, {"priority": 1.0}, {"queue_name": "a b"}],
    ids=str,
)
def test_a_priority_or_queue_that_is_not_valid_is_refused(note, broker, options):
    """At the call, before anything is stored."""
    with pytest.raises(ValueError, match="priority of actor 'note'|queue name"):
        note.send_with_options(**options)
    assert broker.engine.queues.depths() == {}


@pytest.mark.parametrize("options", [{"priority": 10}, {"eta": "noon"}, {"delay": -1}], ids=str)
def test_a_message_that_was_made_by_hand_is_checked_too(note, broker, options):
    """Nothing is stored of it, nor of the others that were sent with it."""
    bad = note.message().copy(options=options)
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        broker.enqueue_many([note.message(), bad])
    assert broker.engine.queues.depths() == {}


@pytest.mark.parametrize(
    "options", [{"delay": 10**15}, {"eta": 10**15}, {"delay": timedelta.max}], ids=str
)
def test_a_moment_that_no_date_can_say_is_refused(note, options):
    """Most likely its unit is wrong."""
    with pytest.raises(ValueError, match="year 9999"):
        note.send_with_options(**options)


def test_messages_sent_together_keep_their_own_options(note, broker, clock):
    """Each its queue, its priority, and its time, which counts from the sending."""
    sent = [
        note.message_with_options(delay=timedelta(seconds=1)),
        note.message_with_options(eta=clock.now() + 5_000),
        note.message_with_options(priority=-1),
        note.message_with_options(queue_name="fast"),
    ]
    made = clock.now()
    clock.advance(100)
    records = [job.refresh().record for job in broker.enqueue_many(sent)]
    assert [record.scheduled_for for record in records] == [
        made + 1_100,
        made + 5_000,
        None,
        None,
    ]
    assert [record.priority for record in records] == [3, 3, -1, 3]
    assert [record.queue for record in records] == ["slow", "slow", "slow", "fast"]


def test_a_delay_that_enqueue_is_given_wins_over_the_messages(note, broker, clock):
    """The sender of a message decides last."""
    job = broker.enqueue(note.message_with_options(delay=5), delay=7)
    assert job.refresh().record.scheduled_for == clock.now() + 7


def test_hooks_are_told_how_long_each_message_waits(note, broker, clock):
    """In milliseconds, however it was said."""
    watcher = Watcher()
    broker.add_middleware(watcher)
    for options, wait in [({}, None), ({"delay": 5}, 5), ({"eta": clock.now() + 7}, 7)]:
        note.send_with_options(**options)
        assert watcher.given["before_enqueue"][0][1] == wait
        assert watcher.given["after_enqueue"][0][1] == wait
