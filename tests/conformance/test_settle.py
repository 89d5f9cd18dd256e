"""What becomes of a delivery, and of one whose token is old."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest

from flask_taskq.clock import END_OF_TIME
from flask_taskq.clock import LONGEST
from flask_taskq.jobs.delivery import Failed
from flask_taskq.jobs.delivery import Retried
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import Status
from flask_taskq.jobs.record_limits import ATTEMPT_TEXT
from flask_taskq.jobs.record_limits import ATTEMPT_TRACEBACK
from flask_taskq.jobs.record_limits import KEPT_ATTEMPTS
from tests.support.bench import Bench
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import ERROR
from tests.support.bench import expired
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry
from tests.support.bench import snoozed


def settlements(bench: Bench):
    """One of each kind, as functions of a delivery."""
    later = bench.clock.now() + 1_000
    return {
        "done": done,
        "failed": failed,
        "cancelled": cancelled,
        "expired": expired,
        "retry": lambda delivery: retry(delivery, at=later),
        "released": released,
        "release later": lambda delivery: released(delivery, at=later, reason="why"),
        "snoozed": lambda delivery: snoozed(delivery, at=later, started_at=later - 1),
    }


KINDS = [
    "done",
    "failed",
    "cancelled",
    "expired",
    "retry",
    "released",
    "release later",
    "snoozed",
]


def test_a_job_that_is_done_has_succeeded(bench: Bench) -> None:
    """The record keeps the result, the times, and who ran it."""
    delivery = bench.running("w1")
    began = bench.clock.now()
    bench.clock.advance(250)

    settled = bench.settle(done(delivery, b'"yes"', started_at=began + 50))
    assert settled == ([Status.SUCCEEDED], [], [])

    record = bench.record(delivery.id)
    assert (record.status, record.result, record.error) == (Status.SUCCEEDED, b'"yes"', None)
    assert (record.started_at, record.finished_at) == (began + 50, began + 250)
    assert (record.attempt, record.worker) == (1, "w1")


def test_a_job_that_failed_keeps_its_error(bench: Bench) -> None:
    """It is the dead letter: message and error are kept whole."""
    delivery = bench.running(message=b"[1, 2]")
    bench.clock.advance(250)

    bench.settle(failed(delivery))

    record = bench.record(delivery.id)
    assert (record.status, record.error, record.result) == (Status.FAILED, ERROR, None)
    assert record.message == b"[1, 2]"
    assert record.finished_at == bench.clock.now()
    assert record.attempt == 1


def test_a_job_that_was_given_up_is_cancelled_and_says_why(bench: Bench) -> None:
    """The run is charged; the record is kept as long as one of a job that ended well."""
    delivery = bench.running()
    began = bench.clock.now()
    bench.clock.advance(250)

    bench.settle(cancelled(delivery, started_at=began + 50))

    record = bench.record(delivery.id)
    assert (record.status, record.error, record.result) == (Status.CANCELLED, ERROR, None)
    assert (record.started_at, record.finished_at) == (began + 50, began + 250)
    assert record.expires_at == began + 250 + bench.engine.settings.result_ttl
    assert (record.attempt, record.cancel_requested) == (1, False)


def test_a_job_that_was_too_old_has_expired_and_is_not_charged(bench: Bench) -> None:
    """It did not run: there is no attempt, and an earlier one stays."""
    delivery = bench.running()
    bench.settle(retry(delivery, at=bench.clock.now()))
    other = bench.claim()
    bench.clock.advance(250)

    bench.settle(expired(other))

    record = bench.record(delivery.id)
    assert (record.status, record.error, record.attempt) == (Status.EXPIRED, ERROR, 1)
    assert [attempt.number for attempt in record.attempts] == [1]
    assert record.finished_at == bench.clock.now()
    assert record.expires_at == bench.clock.now() + bench.engine.settings.result_ttl


def test_a_run_that_is_retried_is_charged(bench: Bench) -> None:
    """The job waits for its time, with the error of the last run; the next one counts on."""
    delivery = bench.running()
    at = bench.clock.now() + 1_000

    bench.settle(retry(delivery, at=at))

    record = bench.record(delivery.id)
    assert (record.status, record.scheduled_for) == (Status.SCHEDULED, at)
    assert (record.attempt, record.error, record.worker) == (1, ERROR, None)
    bench.clock.advance(1_000)
    assert bench.claim().attempt == 2
    assert bench.record(delivery.id).attempt == 2


def test_the_record_keeps_the_last_attempts(bench: Bench) -> None:
    """Their numbers, times and errors, the oldest first, and no more than a few of them."""
    job_id = bench.send()
    expected = []
    for number in range(1, KEPT_ATTEMPTS + 3):
        delivery = bench.claim()
        began = bench.clock.now()
        bench.clock.advance(30)
        error = JobError(type="ValueError", message=str(number), traceback="Traceback ...")
        settlement = Retried(
            delivery=delivery, error=error, at=began + 40, started_at=began + 10
        )
        bench.settle(settlement)
        expected.append((number, began + 10, began + 30, error))
        bench.clock.advance(10)
        kept = [msgspec.structs.astuple(one) for one in bench.record(job_id).attempts]
        assert kept == expected[-KEPT_ATTEMPTS:]


@pytest.mark.parametrize("settle", [failed, cancelled])
def test_the_attempt_that_ended_the_job_is_among_them(bench: Bench, settle) -> None:
    """Also one that did not come to the actor: it has no start."""
    delivery = bench.running()
    bench.settle(retry(delivery, at=bench.clock.now(), started_at=5))

    bench.settle(settle(bench.claim()))

    first, last = bench.record(delivery.id).attempts
    assert (first.number, first.started_at) == (1, 5)
    assert (last.number, last.started_at, last.error) == (2, None, ERROR)
    assert last.ended_at == bench.clock.now()


def test_a_retry_that_was_cancelled_instead_is_an_attempt(bench: Bench) -> None:
    """It did run."""
    delivery = bench.running()
    bench.engine.jobs.cancel(delivery.id)

    bench.settle(retry(delivery, at=0))

    record = bench.record(delivery.id)
    assert (record.status, record.error) == (Status.CANCELLED, ERROR)
    assert [attempt.number for attempt in record.attempts] == [1]


def test_what_is_not_charged_is_no_attempt(bench: Bench) -> None:
    """A give-back, a crash, and a success leave the list as it is."""
    delivery = bench.running()
    bench.settle(retry(delivery, at=bench.clock.now()))
    before = bench.record(delivery.id).attempts
    bench.settle(released(bench.claim()))
    bench.claim("w2")
    bench.engine.workers.hand_back("w2", [delivery.id], "killed by signal 9")
    bench.settle(done(bench.claim()))

    assert bench.record(delivery.id).attempts == before
    assert len(before) == 1


def test_the_texts_of_an_attempt_are_cut(bench: Bench) -> None:
    """So that a row has a bound; the last error is whole. Of a traceback the end is kept."""
    delivery = bench.running()
    error = JobError(type="E", message="m" * 30_000, traceback="t" * 30_000 + "E: end")

    bench.settle(Failed(delivery=delivery, error=error))

    record = bench.record(delivery.id)
    [attempt] = record.attempts
    assert record.error == error
    assert (len(attempt.error.message), attempt.error.message[-1]) == (ATTEMPT_TEXT, "…")
    assert attempt.error.traceback is not None
    assert len(attempt.error.traceback) == ATTEMPT_TRACEBACK
    assert attempt.error.traceback.startswith("…t")
    assert attempt.error.traceback.endswith("E: end")


def test_a_success_clears_the_error_of_an_earlier_run(bench: Bench) -> None:
    """What failed once and then went well has no error."""
    delivery = bench.running()
    bench.settle(retry(delivery, at=bench.clock.now()))

    bench.settle(done(bench.claim()))

    record = bench.record(delivery.id)
    assert (record.status, record.error, record.attempt) == (Status.SUCCEEDED, None, 2)


def test_a_retry_whose_time_is_over_may_run_at_once(bench: Bench) -> None:
    """Its time is a lower bound."""
    delivery = bench.running()
    bench.settle(retry(delivery, at=bench.clock.now() - 5_000))

    assert bench.claim().id == delivery.id


def test_a_run_that_was_given_back_is_not_charged(bench: Bench) -> None:
    """The job is queued as if it had not been fetched."""
    delivery = bench.running()

    bench.settle(released(delivery, reason="shutdown"))

    record = bench.record(delivery.id)
    assert (record.status, record.attempt) == (Status.QUEUED, 0)
    assert (record.worker, record.scheduled_for) == (None, None)
    assert record.status_reason == "shutdown"
    assert bench.claim().attempt == 1


def test_a_job_that_is_put_off_says_why_it_waits(bench: Bench) -> None:
    """The reason stands in the record until the job runs."""
    delivery = bench.running()
    at = bench.clock.now() + 1_000

    bench.settle(released(delivery, at=at, reason="unknown_actor"))

    record = bench.record(delivery.id)
    assert (record.status, record.scheduled_for) == (Status.SCHEDULED, at)
    assert (record.attempt, record.status_reason) == (0, "unknown_actor")
    bench.clock.advance(1_000)
    bench.claim()
    assert bench.record(delivery.id).status_reason is None


def test_putting_off_is_counted_from_its_first_time(bench: Bench) -> None:
    """The next delivery tells how often and since when no run was charged."""
    job_id = bench.send()
    began = bench.clock.now()

    for count in range(4):
        delivery = bench.claim()
        assert delivery.releases == count
        assert delivery.released_since == (began if count else None)
        bench.settle(released(delivery, at=bench.clock.now() + 100))
        bench.clock.advance(100)

    assert bench.record(job_id).attempt == 0


def test_giving_back_without_a_time_is_not_counted_as_putting_off(bench: Bench) -> None:
    """A worker that stops says nothing about the job."""
    bench.send()
    bench.settle(released(bench.claim()))

    delivery = bench.claim()

    assert (delivery.releases, delivery.released_since) == (0, None)


def test_a_charged_run_ends_the_count_of_putting_off(bench: Bench) -> None:
    """After a real run it begins again."""
    bench.send()
    bench.settle(released(bench.claim(), at=bench.clock.now()))
    bench.settle(retry(bench.claim(), at=bench.clock.now()))

    delivery = bench.claim()

    assert (delivery.releases, delivery.released_since) == (0, None)
    assert delivery.attempt == 2


def test_a_run_that_put_its_job_off_ends_the_count(bench: Bench) -> None:
    """It had begun, so that whatever kept the job from running is over; nothing is charged."""
    job_id = bench.send()
    bench.settle(released(bench.claim(), at=bench.clock.now()))
    delivery = bench.claim()
    at = bench.clock.now() + 500

    bench.settle(snoozed(delivery, at=at, started_at=at - 500))

    record = bench.record(job_id)
    assert (record.status, record.scheduled_for) == (Status.SCHEDULED, at)
    assert (record.attempt, record.status_reason, record.worker) == (0, "snoozed", None)
    bench.clock.advance(500)
    delivery = bench.claim()
    assert (delivery.releases, delivery.released_since, delivery.attempt) == (0, None, 1)


def test_a_crash_does_not_end_the_count_of_putting_off(bench: Bench) -> None:
    """A lost worker is no charged run."""
    job_id = bench.send()
    began = bench.clock.now()
    bench.settle(released(bench.claim(), at=began))
    bench.claim("w1")
    bench.engine.workers.hand_back("w1", [job_id], "killed by signal 9")

    delivery = bench.claim("w2")

    assert (delivery.releases, delivery.released_since) == (1, began)


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_of_a_record_raises_its_version(bench: Bench, kind: str) -> None:
    """Who polls can tell that something changed."""
    job_id = bench.send()
    versions = [bench.record(job_id).version]
    delivery = bench.claim()
    versions.append(bench.record(job_id).version)
    bench.engine.jobs.cancel(job_id)
    versions.append(bench.record(job_id).version)
    bench.settle(settlements(bench)[kind](delivery))
    versions.append(bench.record(job_id).version)

    assert versions == sorted(set(versions))


@pytest.mark.parametrize("kind", KINDS)
def test_the_lease_being_over_does_not_spoil_a_settlement(bench: Bench, kind: str) -> None:
    """Who is late but still holds the job may say how it ended."""
    delivery = bench.running()
    bench.clock.advance(bench.engine.settings.lease)

    settled = bench.settle(settlements(bench)[kind](delivery))

    assert None not in settled.outcomes
    assert bench.status(delivery.id) is not Status.RUNNING


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_settlement_is_refused(bench: Bench, kind: str) -> None:
    """What was settled stays as it was settled."""
    delivery = bench.running()
    bench.settle(done(delivery, b"first"))
    before = bench.record(delivery.id)
    bench.clock.advance(10)

    settled = bench.settle(settlements(bench)[kind](delivery))

    assert settled.outcomes == [None]
    assert bench.record(delivery.id) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_settlement_after_the_job_was_taken_away_is_refused(bench: Bench, kind: str) -> None:
    """A worker that slept past its lease wakes up and changes nothing."""
    delivery = bench.running("w1")
    bench.clock.advance(bench.engine.settings.lease)
    assert bench.engine.workers.reap() == ["w1"]
    before = bench.record(delivery.id)

    settled = bench.settle(settlements(bench)[kind](delivery))

    assert settled.outcomes == [None]
    assert bench.record(delivery.id) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_settlement_while_the_job_runs_elsewhere_is_refused(bench: Bench, kind: str) -> None:
    """The record stays as the second run makes it."""
    old = bench.running("w1")
    bench.engine.workers.hand_back("w1", [], "killed by signal 9")
    new = bench.claim("w2")

    assert bench.settle(settlements(bench)[kind](old)).outcomes == [None]

    assert bench.record(old.id).worker == "w2"
    assert None not in bench.settle(done(new, b"second"), name="w2").outcomes
    assert bench.record(old.id).result == b"second"


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_of_an_earlier_claim_of_the_same_worker_is_old(bench: Bench, kind: str) -> None:
    """The worker's name alone is no token."""
    old = bench.running("w1")
    bench.settle(released(old))
    new = bench.claim("w1")

    assert bench.settle(settlements(bench)[kind](old)).outcomes == [None]

    assert bench.status(old.id) is Status.RUNNING
    assert None not in bench.settle(done(new)).outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_settlement_of_a_job_that_is_gone_is_refused(bench: Bench, kind: str) -> None:
    """A record that was removed does not come back."""
    delivery = bench.running()
    bench.settle(released(delivery))
    bench.engine.queues.purge("default")

    assert bench.settle(settlements(bench)[kind](delivery)).outcomes == [None]
    assert bench.engine.jobs.get(delivery.id) is None


def test_a_mixed_batch_tells_exactly_which_were_refused(bench: Bench) -> None:
    """The good ones are settled, the others are named, in their order."""
    bench.send_many(5)
    a, b, c, d, e = bench.worker().fetch(5, 0)
    bench.settle(done(b), released(d))

    settled = bench.settle(failed(d), done(a), failed(b), retry(c, at=0), done(e))

    assert settled.outcomes == [
        None,
        Status.SUCCEEDED,
        None,
        Status.SCHEDULED,
        Status.SUCCEEDED,
    ]
    statuses = [bench.status(delivery.id) for delivery in (a, b, c, d, e)]
    assert statuses == ["succeeded", "succeeded", "scheduled", "queued", "succeeded"]


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_alike_in_one_batch_the_first_counts(bench: Bench, kind: str) -> None:
    """Those around them are settled, in one step with it."""
    bench.send_many(3)
    first, twice, last = bench.worker().fetch(3, 0)
    make = settlements(bench)[kind]

    outcomes = bench.settle(done(first), make(twice), make(twice), done(last)).outcomes

    assert [outcome is None for outcome in outcomes] == [False, False, True, False]
    assert outcomes[1] is bench.status(twice.id)
    assert bench.status(first.id) is bench.status(last.id) is Status.SUCCEEDED


def test_of_two_settlements_in_one_batch_the_first_counts(bench: Bench) -> None:
    """The second finds a job that is settled already."""
    delivery = bench.running()

    settled = bench.settle(done(delivery, b"first"), failed(delivery))

    assert settled.outcomes == [Status.SUCCEEDED, None]
    assert bench.record(delivery.id).result == b"first"


def test_settling_may_bring_the_next_jobs(bench: Bench) -> None:
    """In the same step, at most as many as asked for."""
    ids = bench.send_many(5)
    [delivery] = bench.worker().fetch(1, 0)

    settled = bench.settle(done(delivery), then_fetch=2)

    assert [next_.id for next_ in settled.deliveries] == ids[1:3]
    assert bench.status(ids[3]) is Status.QUEUED


def test_settling_without_asking_brings_nothing(bench: Bench) -> None:
    """Who stops does not get more."""
    bench.send_many(2)
    [delivery] = bench.worker().fetch(1, 0)

    assert bench.settle(done(delivery)).deliveries == []


def test_a_job_given_back_may_come_again_in_the_same_step(bench: Bench) -> None:
    """It is settled first, then jobs are fetched."""
    delivery = bench.running()

    settled = bench.settle(released(delivery), then_fetch=1)

    [again] = settled.deliveries
    assert (again.id, again.claim) == (delivery.id, delivery.claim + 1)


def test_settling_nothing_may_still_fetch(bench: Bench) -> None:
    """An empty batch is no error."""
    bench.worker()
    job_id = bench.send()

    settled = bench.settle(then_fetch=1)

    assert [delivery.id for delivery in settled.deliveries] == [job_id]


def test_a_refused_settlement_does_not_keep_from_fetching(bench: Bench) -> None:
    """One old token does not stop a worker."""
    delivery = bench.running()
    bench.settle(done(delivery))
    job_id = bench.send()

    settled = bench.settle(done(delivery), then_fetch=1)

    assert [next_.id for next_ in settled.deliveries] == [job_id]


def test_settling_after_the_lease_counts_but_brings_nothing(bench: Bench) -> None:
    """Work that was done is kept; more is not given to who cannot be trusted with it."""
    delivery = bench.running()
    waiting = bench.send()
    bench.clock.advance(bench.engine.settings.lease)

    settled = bench.settle(done(delivery), then_fetch=1)

    assert settled == ([Status.SUCCEEDED], [], [])
    assert bench.status(delivery.id) is Status.SUCCEEDED
    assert bench.status(waiting) is Status.QUEUED


def test_what_comes_with_a_settlement_is_a_delivery_like_any_other(bench: Bench) -> None:
    """It can be settled in its turn, along a whole chain."""
    ids = bench.send_many(4)
    deliveries = bench.worker().fetch(1, 0)
    for _ in ids:
        [delivery] = deliveries
        outcomes, deliveries, _ = bench.settle(done(delivery), then_fetch=1)
        assert outcomes == [Status.SUCCEEDED]

    assert {bench.status(job_id) for job_id in ids} == {Status.SUCCEEDED}
    assert deliveries == []


def test_a_thousand_settlements_fit_in_one_call(bench: Bench) -> None:
    """A batch has no limit that a caller must know."""
    ids = bench.send_many(1_000)
    deliveries = bench.worker().fetch(1_000, 0)

    settled = bench.settle(*map(done, deliveries))

    assert settled == ([Status.SUCCEEDED] * len(deliveries), [], [])
    assert all(bench.status(job_id) is Status.SUCCEEDED for job_id in ids)


# Follow-ups


@pytest.mark.parametrize("settle", [done, failed, cancelled, expired])
def test_a_follow_up_is_stored_with_the_outcome(bench: Bench, settle) -> None:
    """It is a job like any other, and may be fetched in the same step."""
    delivery = bench.running()
    envelopes = (bench.envelope(message=b"[1]"), bench.envelope(delay=1_000))

    settled = bench.settle(settle(delivery, follow_ups=envelopes), then_fetch=5)

    assert [next_.id for next_ in settled.deliveries] == [envelopes[0].id]
    assert bench.record(envelopes[0].id).message == b"[1]"
    assert bench.status(envelopes[1].id) is Status.SCHEDULED


def test_a_follow_up_of_a_refused_settlement_is_not_stored(bench: Bench) -> None:
    """The run that did count says what follows; the others of the batch are not touched."""
    old = bench.running("w1")
    bench.engine.workers.hand_back("w1", [], "killed by signal 9")
    bench.claim("w2")
    other = bench.running("w1", queue="other")
    envelopes = [bench.envelope(), bench.envelope()]

    settled = bench.settle(
        done(old, follow_ups=(envelopes[0],)), done(other, follow_ups=(envelopes[1],))
    )

    assert settled.outcomes == [None, Status.SUCCEEDED]
    assert settled.ready == [envelopes[1].id]
    assert bench.engine.jobs.get(envelopes[0].id) is None
    assert bench.status(envelopes[1].id) is Status.QUEUED


def test_of_two_settlements_in_one_batch_the_first_is_followed(bench: Bench) -> None:
    """The second is a stale one."""
    delivery = bench.running()
    first, second = bench.envelope(), bench.envelope()

    bench.settle(done(delivery, follow_ups=(first,)), failed(delivery, follow_ups=(second,)))

    assert bench.status(first.id) is Status.QUEUED
    assert bench.engine.jobs.get(second.id) is None


def test_a_follow_up_that_exists_is_passed_over(bench: Bench) -> None:
    """A call whose outcome is unknown can be repeated."""
    envelope = bench.envelope()
    bench.settle(done(bench.running(), follow_ups=(envelope,)))
    first = bench.claim()

    assert None not in bench.settle(done(first, follow_ups=(envelope,))).outcomes

    assert bench.status(envelope.id) is Status.SUCCEEDED


@pytest.mark.parametrize("kind", ["retry", "released", "release later", "snoozed"])
def test_nothing_follows_a_run_that_was_cancelled_instead(bench: Bench, kind: str) -> None:
    """The outcome that it belongs to did not come about."""
    delivery = bench.running()
    bench.engine.jobs.cancel(delivery.id)
    envelope = bench.envelope()
    settlement = settlements(bench)[kind](delivery)

    bench.settle(msgspec.structs.replace(settlement, follow_ups=(envelope,)))

    assert bench.status(delivery.id) is Status.CANCELLED
    assert bench.engine.jobs.get(envelope.id) is None


def test_a_follow_up_wakes_who_waits_for_its_queue(live: Bench) -> None:
    """Like a job that is sent."""
    delivery = live.running("w1")
    envelope = live.envelope(queue="other")
    consumer = live.worker("w2", ["other"])
    fetched = []
    thread = threading.Thread(target=lambda: fetched.extend(consumer.fetch(1, 30_000)))
    thread.start()

    live.settle(done(delivery, follow_ups=(envelope,)))

    thread.join(10)
    assert [delivery.id for delivery in fetched] == [envelope.id]


def test_the_longest_retention_is_no_trouble(new_bench: Callable[..., Bench]) -> None:
    """It ends long before the last moment that can be stored."""
    bench = new_bench(result_ttl=LONGEST, failed_ttl=LONGEST)
    for settlement in (done(bench.running()), failed(bench.running())):
        assert None not in bench.settle(settlement).outcomes
        record = bench.record(settlement.delivery.id)
        assert record.expires_at == bench.clock.now() + LONGEST


def test_a_job_can_wait_until_the_end_of_time(bench: Bench) -> None:
    """The last moment that can be written as a date is one like any other."""
    delivery = bench.running()

    assert None not in bench.settle(retry(delivery, at=END_OF_TIME)).outcomes

    record = bench.record(delivery.id)
    assert (record.status, record.scheduled_for) == (Status.SCHEDULED, END_OF_TIME)


@pytest.mark.parametrize("is_public", [True, False])
def test_whether_clients_may_see_an_error_is_kept_with_it(
    bench: Bench, is_public: bool
) -> None:
    """The worker decides that, and the web server shows it."""
    error = msgspec.structs.replace(ERROR, is_public=is_public)
    delivery = bench.running()
    bench.settle(Failed(delivery=delivery, error=error))

    record = bench.record(delivery.id)

    assert record.error == error
    assert [attempt.error.is_public for attempt in record.attempts] == [is_public]


@pytest.mark.parametrize("ttl", [10**14, 10**17, 10**25])
def test_a_record_is_kept_until_the_end_of_dates_at_most(
    new_bench: Callable[..., Bench], ttl: int
) -> None:
    """A retention without an end keeps no outcome from being stored, of any job of the call."""
    bench = new_bench(result_ttl=ttl, failed_ttl=ttl)
    ids = bench.send_many(4)
    first, second, third, fourth = bench.worker().fetch(4, 0)
    bench.engine.jobs.cancel(fourth.id)

    ends = (done(first), failed(second), released(fourth), released(third))
    assert None not in bench.settle(*ends).outcomes

    statuses = [bench.status(job_id) for job_id in ids]
    ended = [Status.SUCCEEDED, Status.FAILED, Status.QUEUED, Status.CANCELLED]
    assert statuses == ended
    limit = min(bench.clock.now() + ttl, END_OF_TIME)
    assert {bench.record(ids[at]).expires_at for at in (0, 1, 3)} == {limit}
    bench.engine.jobs.cancel(ids[2])
    assert bench.record(ids[2]).expires_at == limit
    bench.engine.workers.hand_back("w1", ids, "killed by signal 9")
    assert bench.status(ids[0]) is Status.SUCCEEDED
