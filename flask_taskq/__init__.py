"""Background jobs for Flask."""

from .actor import Actor
from .actor import AsyncActor
from .extension import TaskQ
from .generic import GenericActor
from .hooks import Middleware
from .job import Job
from .message import Message
from .middleware.current_job import current_job
from .record import Status
from .shared import shared_actor

__all__ = [
    "Actor",
    "AsyncActor",
    "GenericActor",
    "Job",
    "Message",
    "Middleware",
    "Status",
    "TaskQ",
    "current_job",
    "shared_actor",
]
