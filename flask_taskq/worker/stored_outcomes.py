"""Calls hooks and writes the log when outcomes are stored."""

from __future__ import annotations

from collections.abc import Sequence

from ..actors.broker import Broker
from ..actors.run import Run
from ..engines.base import Settled
from ..jobs.delivery import Failed
from ..jobs.delivery import Settlement
from ..jobs.encoding import decode_message
from ..jobs.record import Status
from ..loggers import get_logger
from . import forked_processes
from .outcome import log_fields
from .outcome import text_of

logger = get_logger("flask_taskq.jobs")


def announce(
    broker: Broker,
    settlements: Sequence[Settlement],
    catches: tuple[type[BaseException], ...] = (Exception,),
) -> None:
    """Run the ``before_ack`` and ``before_nack`` hooks of outcomes that are to be stored.

    :param catches: exceptions of hooks that are logged and ignored.
    """
    if broker.chain.has("before_ack") or broker.chain.has("before_nack"):
        for settlement in settlements:
            _emit_outcome(broker, "before", settlement, catches)


def announce_stored(
    broker: Broker,
    settlements: Sequence[Settlement],
    settled: Settled,
    catches: tuple[type[BaseException], ...] = (Exception,),
) -> None:
    """Log the outcomes that were stored and run the ``after_ack`` and ``after_nack`` hooks.

    :param settled: what the engine has stored.
    :param catches: exceptions of hooks, and of the app's logging, that are ignored.
    """
    chain = broker.chain
    wants_follow_ups = chain.has("after_enqueue")
    wants_outcomes = chain.has("after_ack") or chain.has("after_nack")
    generation = forked_processes.generation
    for settlement, outcome in zip(settlements, settled.outcomes, strict=True):
        delivery = settlement.delivery
        if outcome is None:
            logger.warning(
                "job %s: the settlement came too late and was refused; the job had been"
                " taken from worker %s",
                delivery.id,
                delivery.worker,
                extra=log_fields(delivery),
            )
            continue
        if settlement.line is not None:
            try:
                settlement.line.log(outcome)
            except catches:
                pass
        is_stopped = outcome is Status.CANCELLED and settlement.runs_again
        if is_stopped:
            _tell_cancelled(broker, delivery.id, catches)
        elif settlement.follow_ups and wants_follow_ups:
            for envelope in settlement.follow_ups:
                if envelope.id in settled.ready:  # no other job has its unique key
                    message = decode_message(envelope.message)
                    chain.emit_after("enqueue", message, None, catches=catches)
        if wants_outcomes:
            _emit_outcome(broker, "after", settlement, catches)
    if forked_processes.generation != generation:
        forked_processes.end()


def _emit_outcome(
    broker: Broker,
    when: str,
    settlement: Settlement,
    catches: tuple[type[BaseException], ...],
) -> None:
    signal = "nack" if isinstance(settlement, Failed) else "ack"
    if not settlement.is_run or not broker.chain.has(f"{when}_{signal}"):
        return
    generation = forked_processes.generation
    try:
        run = _run_of(settlement)
        if when == "before":
            broker.chain.emit_before(signal, run)
        else:
            broker.chain.emit_after(signal, run, catches=catches)
    except catches as error:
        logger.error("job %s: %s", settlement.delivery.id, text_of(error))
    if forked_processes.generation != generation:
        forked_processes.end()


def _tell_cancelled(
    broker: Broker, job_id: str, catches: tuple[type[BaseException], ...]
) -> None:
    # It was cancelled while it ran. The hook is called now that the status is stored.
    if broker.chain.has("after_cancel"):
        try:
            record = broker.engine.jobs.get(job_id)
            if record is not None:
                broker.chain.emit_after("cancel", record, catches=catches)
        except catches as error:
            logger.error("job %s: %s", job_id, text_of(error))


def _run_of(settlement: Settlement) -> Run:
    delivery = settlement.delivery
    run = Run(decode_message(delivery.message), delivery)
    if isinstance(settlement, Failed):
        run.fail()
    return run
