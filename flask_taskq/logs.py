"""What a log says about jobs, for ``flask taskq worker`` and for the logging of an app."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Final

from .middleware.current_job import current_job
from .worker.log_formats import JSONFormatter as JSONFormatter
from .worker.log_formats import TextFormatter as TextFormatter

#: The id of the request that is being served, or that a job is done for. An app that has
#: such ids sets it: before each request, and in a job that was given one.
request_id: Final[ContextVar[str | None]] = ContextVar("flask_taskq.request_id", default=None)


class JobFilter(logging.Filter):
    """Adds the job to each log record that is made inside one, by any logger.

    Records get the attributes ``job_id``, ``actor``, ``attempt`` and ``request_id``, each of
    them None where there is none. What a record has already, by ``extra=``, stays.

    It belongs on a handler: the filters of a logger see nothing of the loggers below it. A
    handler that passes records to another thread needs it itself, because the job is known
    only in the thread that logs.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        fields = record.__dict__
        if "job_id" not in fields:
            fields["job_id"] = None
            if current_job:  # type: ignore[truthy-bool]  # a proxy, and false without one
                fields["job_id"] = current_job.id
                fields.setdefault("actor", current_job.message.actor_name)
                fields.setdefault("attempt", current_job.attempt)
        fields.setdefault("actor", None)
        fields.setdefault("attempt", None)
        fields.setdefault("request_id", request_id.get())
        return True
