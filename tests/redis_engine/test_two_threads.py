"""One thread fetches while another settles, and fetches with that."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from flask_taskq.engines.redis.consumer import RedisConsumer
from flask_taskq.jobs.delivery import Delivery
from tests.support.bench import Bench
from tests.support.redis_server import RedisServer

JOBS = 60

#: How long a thread waits before each step, in seconds.
WAIT = 0.0005


@pytest.fixture
def meeting() -> Iterator[list[str]]:
    """Threads that are started wait at each step between a reply and the return from it, so
    that two of them meet there; the names of the functions in which they did."""
    names: list[str] = []

    def wait(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != inspect.getfile(RedisConsumer):
            return None
        if frame.f_code.co_name == "_deliver":
            frame.f_trace_opcodes = True
            names.append(frame.f_code.co_name)
            time.sleep(WAIT)
        return wait

    threading.settrace(wait)
    yield names
    threading.settrace(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("queues", [["a"], ["a", "b"]])
def test_each_job_that_a_worker_holds_was_delivered_to_it(
    server: RedisServer,
    new_bench: Callable[..., Bench],
    meeting: list[str],
    queues: list[str],
) -> None:
    """Whichever of the two threads has claimed it."""
    bench = new_bench(server.url, lease=600_000)
    for queue in queues:
        bench.send_many(JOBS // len(queues), queue=queue)
    consumer = bench.worker("w1", queues=queues)
    delivered: list[Delivery] = []
    errors: list[Exception] = []

    def claim(call: Callable[[], list[Delivery]]) -> None:
        try:
            while deliveries := call():
                delivered.extend(deliveries)
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=claim, args=(call,))
        for call in (
            lambda: consumer.fetch(1, 0),
            lambda: consumer.settle_if_held([], 1).deliveries,
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert meeting and errors == []
    assert len({delivery.id for delivery in delivered}) == JOBS
