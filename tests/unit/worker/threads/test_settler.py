"""The settler, without the other threads of a worker."""

import threading

import pytest

from flask_taskq import Status
from flask_taskq.actors.hooks import Middleware
from flask_taskq.clock import Clock
from flask_taskq.worker.threads.interrupter import Interrupter
from flask_taskq.worker.threads.prefetch import Prefetch
from flask_taskq.worker.threads.settler import Settler
from tests.support.apps import declare
from tests.support.apps import make_broker
from tests.support.bench import done
from tests.support.bench import released

PATIENCE = 10


class Noting(Middleware):
    """RunProgress which jobs were settled."""

    def __init__(self):
        self.acknowledged = []

    def after_ack(self, broker, message):
        self.acknowledged.append(message.id)


@pytest.fixture
def noting():
    return Noting()


@pytest.fixture
def broker(noting):
    broker = make_broker(Clock(), noting)
    declare(broker, lambda: None, actor_name="idle")
    yield broker
    broker.close()


@pytest.fixture
def consumer(broker):
    broker.engine.workers.register("w")
    return broker.engine.consumer(["default"], "w")


@pytest.fixture
def settle(broker, consumer):
    """Settles in one batch."""

    def settle(*settlements):
        settler = Settler(
            broker,
            consumer,
            Prefetch(1, broker.clock),
            Interrupter([], broker.clock, lambda *stuck: None),
            running=lambda: [],
            may_fetch=lambda: False,
            on_settled=lambda deliveries: None,
            hurrying=threading.Event(),
        )
        for one in settlements:
            settler.put(one)
        settler.end()
        settler.start()
        settler.join(PATIENCE)
        assert not settler.is_alive()

    return settle


def test_of_two_settlements_of_a_delivery_the_first_is_stored_and_told(
    broker, consumer, settle, noting, caplog
):
    """A run that was given up ends after all, while its outcome is on its way."""
    twice, once = (broker.get_actor("idle").send() for _ in range(2))
    deliveries = {one.id: one for one in consumer.fetch(2, 0)}
    settle(
        done(deliveries[twice.id]),
        released(deliveries[twice.id]),
        done(deliveries[once.id]),
    )
    assert noting.acknowledged == [twice.id, once.id]
    assert twice.refresh().status is Status.SUCCEEDED
    assert f"job {twice.id}: the settlement came too late" in caplog.text


def test_a_settlement_that_was_refused_is_told_to_nobody(
    broker, consumer, settle, noting, caplog
):
    """The job is somebody else's by then."""
    job = broker.get_actor("idle").send()
    [delivery] = consumer.fetch(1, 0)
    broker.engine.workers.hand_back("w", (), "stopped")
    settle(done(delivery), done(delivery))
    assert noting.acknowledged == []
    assert caplog.text.count(f"job {job.id}: the settlement came too late") == 2
