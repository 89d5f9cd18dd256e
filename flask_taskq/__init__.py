"""Background jobs for Flask."""

from .actor import Actor
from .extension import TaskQ
from .hooks import Middleware
from .job import Job
from .message import Message
from .middleware.current_job import current_job
from .record import Status

__all__ = [
    "Actor",
    "Job",
    "Message",
    "Middleware",
    "Status",
    "TaskQ",
    "current_job",
]
