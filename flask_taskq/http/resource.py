"""A job as clients see it.

The members are the same for every job; one that does not apply, or that ``TASKQ_EXPOSE``
keeps back, is null. No traceback, argument or class name of an exception is among them, and
the text of an exception only where the app has said so.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from datetime import UTC
from typing import Any
from typing import Final

import msgspec
from flask import Response

from ..clock import END_OF_TIME
from ..jobs.record import JobRecord
from ..jobs.record import Status

#: A result over this many bytes is not in the resource; ``result_url`` has its address.
MAX_INLINE_RESULT: Final = 65_536

#: The longest time that a client is asked to wait before it polls again, in seconds.
MAX_RETRY_AFTER: Final = 30

#: What a job that waits for its next attempt is shown as.
RETRYING: Final = "retrying"

_PROBLEM_TYPE: Final = "urn:flask-taskq:problem:"

#: What kind of problem an end without a result is, and the HTTP status that would go with it.
_PROBLEMS: Final = {
    Status.FAILED: ("job-failed", 500),
    Status.CANCELLED: ("job-cancelled", 409),
    Status.EXPIRED: ("job-expired", 410),
}

#: The title of an error with each code, for clients. The first three are also for records
#: without an error.
ERROR_TITLES: Final = {
    "failed": "The job failed",
    "cancelled": "The job was cancelled",
    "expired": "The job expired before it could run",
    "exception": "The job failed",
    "discarded": "The job was given up",
    "time_limit": "The job took too long",
    "bad_arguments": "The arguments of the job do not fit",
    "bad_result": "The result of the job cannot be stored",
    "malformed": "The stored job is damaged",
    "unknown_actor": "No worker knows how to run the job",
    "worker_lost": "The worker died while it ran the job",
    "internal": "The outcome of the job could not be stored",
}


def shown_status(record: JobRecord) -> str:
    """The status as people see it: ``retrying`` is a job that waits for its next attempt."""
    is_retrying = record.status is Status.SCHEDULED and record.attempt > 0
    return RETRYING if is_retrying else record.status.value


def job_response(
    record: JobRecord,
    *,
    now: int,
    expose: Collection[str],
    url: str | None,
    reason: str | None,
    status: int = 200,
) -> Response:
    """The answer that shows a job.

    :param now: milliseconds since the epoch.
    :param expose: which of the optional members are let out.
    :param url: where the job is shown.
    :param reason: why the job waits.
    :param status: the HTTP status.
    """
    # It may change without the record, and then clients must get the resource anew.
    tag = (
        f"v{record.version}"
        if reason == record.status_reason
        else f"v{record.version}-{reason}"
    )
    record = msgspec.structs.replace(record, status_reason=reason)
    body = msgspec.json.encode(job_resource(record, expose, url))
    response = Response(body, status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept, Authorization, Cookie"
    response.set_etag(tag)
    if not record.status.is_final:
        response.headers["Retry-After"] = str(_retry_after(record, now))
    return response


def result_response(record: JobRecord) -> Response:
    """The answer that is a job's result and nothing else."""
    response = Response(record.result, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Authorization, Cookie"
    return response


def problem_response(status: int, kind: str, title: str, detail: str) -> Response:
    """An error as RFC 9457 describes it."""
    problem = {
        "type": _PROBLEM_TYPE + kind,
        "title": title,
        "status": status,
        "detail": detail,
    }
    response = Response(
        msgspec.json.encode(problem), status, mimetype="application/problem+json"
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def job_resource(
    record: JobRecord,
    expose: Collection[str],
    url: str | None,
    max_inline_result: int | None = MAX_INLINE_RESULT,
) -> dict[str, Any]:
    """The members of the resource, ready for :mod:`msgspec`.

    :param expose: which of the optional members are let out.
    :param url: where the job is shown.
    :param max_inline_result: a result over this many bytes is not in it; None for no limit.
    """
    is_retrying = shown_status(record) == RETRYING
    links = {}
    if url is not None and not record.status.is_final:
        links["cancel"] = url
    result, result_url = None, None
    if record.result is not None and "result" in expose:
        if url is not None:
            links["result"] = f"{url}/result"
        if max_inline_result is None or len(record.result) <= max_inline_result:
            result = msgspec.Raw(record.result)
        else:
            result_url = links.get("result")
    return {
        "id": record.id,
        "self": url,
        "links": links,
        "actor": record.actor if "actor" in expose else None,
        "queue": record.queue if "queue" in expose else None,
        "status": shown_status(record),
        "done": record.status.is_final,
        "status_reason": record.status_reason,
        "cancel_requested": record.cancel_requested,
        "created_at": _time(record.created_at),
        "scheduled_for": _time(record.scheduled_for),
        "started_at": _time(record.started_at),
        "updated_at": _time(record.updated_at),
        "finished_at": _time(record.finished_at),
        "expires_at": _time(record.expires_at),
        "attempt": record.attempt,
        "max_attempts": record.max_attempts,
        "next_attempt_at": _time(record.scheduled_for) if is_retrying else None,
        "progress": _progress(record) if "progress" in expose else None,
        "result": result,
        "result_url": result_url,
        "error": _error(record, expose),
        "parent": None,
        "batch": None,
        "metadata": {},
    }


def job_dict(record: JobRecord, expose: Collection[str], url: str | None) -> dict[str, Any]:
    """The resource as plain values, its result included."""
    resource = job_resource(record, expose, url)
    if isinstance(resource["result"], msgspec.Raw):
        # Not by msgspec, which refuses half a surrogate pair. Another program may have stored
        # one, and clients of the resource get it as it is.
        resource["result"] = json.loads(bytes(resource["result"]).decode(errors="replace"))
    return resource


def _progress(record: JobRecord) -> dict[str, Any] | None:
    progress = record.progress
    if progress is None:
        return None
    return {
        "current": progress.current,
        "total": progress.total,
        "fraction": progress.fraction,
        "unit": None,
        "message": progress.message,
        "updated_at": _time(progress.updated_at),
    }


def _error(record: JobRecord, expose: Collection[str]) -> dict[str, Any] | None:
    shows_text = "error_message" in expose
    if record.status not in _PROBLEMS or not ("error" in expose or shows_text):
        return None
    kind, status = _PROBLEMS[record.status]
    ending = kind.removeprefix("job-")
    error = record.error
    code = ending if error is None else error.code
    is_told = error is not None and (error.is_public or shows_text)
    return {
        "type": _PROBLEM_TYPE + kind,
        "title": ERROR_TITLES.get(code, ERROR_TITLES[ending]),
        "status": status,
        "detail": error.message if error is not None and is_told else None,
        "code": code,
        "retryable": False,
        "attempt": record.attempt,
    }


def _time(at: int | None) -> str | None:
    if at is None:
        return None
    # An older version may have stored a time beyond it.
    text = datetime.fromtimestamp(min(at, END_OF_TIME) / 1000, UTC).isoformat(
        timespec="milliseconds"
    )
    return text.replace("+00:00", "Z")


def _retry_after(record: JobRecord, now: int) -> int:
    if record.scheduled_for is None:
        return 1
    seconds = -(-(record.scheduled_for - now) // 1000)
    return max(1, min(seconds, MAX_RETRY_AFTER))
