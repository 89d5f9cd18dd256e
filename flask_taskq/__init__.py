"""Background jobs for Flask."""

from importlib import import_module
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .actors.actor import Actor
    from .actors.actor import AsyncActor
    from .actors.hooks import Middleware
    from .actors.job import Job
    from .app.class_actors import GenericActor
    from .app.extension import TaskQ
    from .app.shared_actors import shared_actor
    from .jobs.message import Message
    from .jobs.record import Status
    from .middleware.current_job import current_job

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
    "Actor": "actors.actor",
    "AsyncActor": "actors.actor",
    "GenericActor": "app.class_actors",
    "Job": "actors.job",
    "Message": "jobs.message",
    "Middleware": "actors.hooks",
    "Status": "jobs.record",
    "TaskQ": "app.extension",
    "current_job": "middleware.current_job",
    "shared_actor": "app.shared_actors",
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
