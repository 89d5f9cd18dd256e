"""What a worker does with jobs that cannot be run. It stays up."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.jobs.encoding import encode_message
from flask_taskq.jobs.message import generate_id
from flask_taskq.jobs.message import Message
from flask_taskq.jobs.message import UNCHECKED

from .harness import PATIENCE
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]


def envelope(message: bytes, job_id: str, actor: str = "work") -> Envelope:
    return Envelope(
        id=job_id,
        queue="default",
        actor=actor,
        priority=0,
        message=message,
        created_at=0,
        max_attempts=4,
    )


def garbage(seed: int) -> bytes:
    """Random bytes, or a message that was damaged, or one that is very deep."""
    choice = random.Random(seed)
    good = encode_message(Message("default", "work", (1,), {}, {}), 10_000)
    return choice.choice(
        [
            choice.randbytes(choice.randrange(200)),
            good[: choice.randrange(len(good))],
            good.replace(b"[1]", b"[" * 50_000 + b"]" * 50_000),
            good.replace(b'"work"', b'"os.system;"'),
            good.replace(b'"args"', b'"argh"'),
            b'{"py/object": "os.system"}',
            b"\x80\x04\x95.",
        ]
    )


def test_damaged_messages_fail_once_among_good_ones_that_run(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """A thousand of each: every good one runs, every bad one is kept as failed."""
    worker = start_worker("-p", "1", "--log-level", "critical")
    engine = taskq.broker.engine
    bad = {generate_id(): garbage(seed) for seed in range(1000)}
    ids, good = list(bad), []
    for start in range(0, len(ids), 10):
        batch = ids[start : start + 10]
        engine.enqueue([envelope(bad[job_id], job_id) for job_id in batch])
        good += send_work(taskq, len(batch), 0)
    assert_all_succeeded(taskq, good)
    for job_id, message in bad.items():
        record = taskq.broker.wait_for_record(job_id, PATIENCE)
        assert record.status is Status.FAILED
        assert record.error is not None
        assert record.error.code == "malformed"
        assert record.message == message
    assert set(recorder.runs()) == set(good)
    assert worker.process.poll() is None


def test_a_job_of_an_unknown_actor_waits_for_a_worker_that_knows_it(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """It is released with a reason, uncharged, and never acknowledged away."""
    worker = start_worker("-p", "1")
    message = Message("default", "of_the_next_release", (), {}, {})
    job_id = message.message_id
    taskq.broker.engine.enqueue(
        [envelope(encode_message(message, 10_000), job_id, "of_the_next_release")]
    )
    worker.wait_for_log(f"job {job_id} waits 1000 ms for another worker")
    worker.wait_for_log(f"job {job_id} waits 2000 ms for another worker")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    record = taskq.job(job_id).record
    assert (record.status, record.attempt) == (Status.SCHEDULED, 0)
    assert record.status_reason == "unknown_actor"


def test_a_job_of_another_version_of_its_actor_waits_for_it(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Its sender has checked its arguments, so a worker that takes them is on its way."""
    worker = start_worker("-p", "1")
    message = Message("default", "work", (), {"seconds": 1}, {})
    taskq.broker.engine.enqueue([envelope(encode_message(message, 10_000), message.message_id)])
    worker.wait_for_log(f"job {message.message_id} waits 1000 ms for another worker")
    worker.wait_for_log(f"job {message.message_id} waits 2000 ms for another worker")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    record = taskq.job(message.message_id).record
    assert (record.status, record.attempt) == (Status.SCHEDULED, 0)
    assert record.status_reason == "bad_arguments"


def test_arguments_that_nobody_has_checked_fail_the_job_once(
    taskq: TaskQ, start_worker: START, recorder: Recorder
) -> None:
    """Their sender did not know the actor: no other worker would take them."""
    start_worker("-p", "1")
    message = Message("default", "work", (), {"seconds": 1}, {UNCHECKED: True})
    taskq.broker.engine.enqueue([envelope(encode_message(message, 10_000), message.message_id)])
    record = taskq.broker.wait_for_record(message.message_id, PATIENCE)
    assert record.status is Status.FAILED
    assert record.error is not None
    assert record.error.code == "bad_arguments"
    assert "milliseconds" in record.error.message
    assert record.attempt == 1
