"""What ``flask taskq job`` does with one job."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final
from typing import get_args

import click
import msgspec
from flask import current_app

from ..actors.broker import Broker
from ..app.extension import TaskQ
from ..app.loading import import_actors
from ..config import Exposable
from ..errors import JobNotFound
from ..http import job_resource
from ..http import job_url
from ..jobs.record import JobRecord
from ..jobs.record import Status
from .exit_codes import fail
from .exit_codes import FAILURE
from .exit_codes import INTERRUPTED
from .exit_codes import SUCCESS
from .exit_codes import TIMEOUT
from .job_text import list_job
from .progress_bar import make_progress_bar
from .wait_reason import explain_wait

#: How often the bar is drawn while a job runs, in milliseconds.
_LOOK: Final = 500


def handle_job(
    taskq: TaskQ,
    job_id: str,
    *,
    wait: bool,
    timeout: int | None,
    cancel: bool,
    as_json: bool,
) -> int:
    """Cancel a job, wait for it and show it, as far as that was asked for; the exit code.

    :param timeout: how long to wait, in milliseconds; None waits for ever.
    """
    broker = taskq.broker
    try:
        record = taskq.job(job_id).record
        can_cancel = record.status is Status.CANCELLED or not record.status.is_final
        if cancel:
            record = broker.cancel(job_id)
        if wait:
            record = _wait(broker, record, timeout)
        shown = _encode(record) if as_json else _list(taskq, record)
    except JobNotFound as error:
        return fail(_unknown(broker, error), FAILURE)
    except KeyboardInterrupt:
        click.echo(f"No longer waiting; job {job_id} goes on.", err=True)
        return INTERRUPTED
    click.echo(shown)
    if cancel and not can_cancel:
        return fail(f"job {job_id} is {record.status} already", FAILURE)
    if not wait:
        return SUCCESS
    if not record.status.is_final:
        return fail(f"job {job_id} has not ended within {timeout} ms", TIMEOUT)
    wanted = Status.CANCELLED if cancel else Status.SUCCEEDED
    return SUCCESS if record.status is wanted else FAILURE


def _unknown(broker: Broker, error: JobNotFound) -> str:
    if broker.engine.is_shared:
        return str(error)
    return f"{error}. Jobs in memory are known only to the process that sent them"


def _wait(broker: Broker, record: JobRecord, timeout: int | None) -> JobRecord:
    until = None if timeout is None else broker.clock.monotonic() + timeout
    with make_progress_bar(sys.stderr) as bar:
        while not record.status.is_final:
            bar.show(record)
            left = _LOOK if until is None else until - broker.clock.monotonic()
            if left <= 0:
                break
            # In slices, because the engine reports the end only, and no progress.
            record = broker.wait_for_record(record.id, int(min(left, _LOOK)))
    return record


def _list(taskq: TaskQ, record: JobRecord) -> str:
    # Without the modules that only a worker imports, the app would seem to lack actors. What
    # keeps one from being imported is no reason to show nothing.
    with suppress(Exception):
        import_actors(taskq.broker.settings.actors)
    broker = taskq.broker  # which takes over the shared actors of these modules
    actor = broker.actors.get(record.actor)
    parameters = () if actor is None else actor.parameters
    return list_job(record, parameters, explain_wait(broker, record))


def _encode(record: JobRecord) -> bytes:
    # The path to a job is the same in every request, and outside of one there is none.
    with current_app.test_request_context():
        url = job_url(record.id)
    # A user who can run commands can read the storage, so all members are shown.
    resource = job_resource(record, get_args(Exposable), url, max_inline_result=None)
    return msgspec.json.encode(resource)
