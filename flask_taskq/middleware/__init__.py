"""Habits of a job, one file each.

A middleware is added to an app by ``TASKQ_MIDDLEWARE`` or is in :data:`DEFAULT`; take it
out of there, and the rest works without it.
"""

from __future__ import annotations

from typing import Final

from ..actors.hooks import Middleware
from .age_limit import AgeLimit
from .callbacks import Callbacks
from .current_job import CurrentJob
from .job_logs import JobLogs
from .public_errors import PublicErrors
from .retries import Retries
from .shutdown_notifications import ShutdownNotifications
from .time_limit import TimeLimit
from .unique import Unique

#: What every app has, in the order in which their ``before_`` hooks run.
DEFAULT: Final[tuple[type[Middleware], ...]] = (
    CurrentJob,
    JobLogs,
    AgeLimit,
    TimeLimit,
    ShutdownNotifications,
    Callbacks,
    PublicErrors,
    Unique,
    Retries,
)
