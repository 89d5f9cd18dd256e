"""Background jobs for Flask."""

from importlib import import_module
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .actor import Actor
    from .actor import AsyncActor
    from .extension import TaskQ
    from .generic import GenericActor
    from .hooks import Middleware
    from .job import Job
    from .jobs.message import Message
    from .jobs.record import Status
    from .middleware.current_job import current_job
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

# Where the names are at run time. They are imported when they are first used: pytest imports
# this package in every project of its environment, for its plugin, and every "flask" command
# does so for its commands. Most of these have no jobs, and some have no Flask.
_MODULES = {
    "Actor": "actor",
    "AsyncActor": "actor",
    "GenericActor": "generic",
    "Job": "job",
    "Message": "jobs.message",
    "Middleware": "hooks",
    "Status": "jobs.record",
    "TaskQ": "extension",
    "current_job": "middleware.current_job",
    "shared_actor": "shared",
}

if not TYPE_CHECKING:  # or else a checker would believe that the package has every name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
