"""What an app's tests use."""

from importlib import import_module
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clock import ManualClock
    from .clock import MovableClock
    from .draining import drain
    from .draining import JobFailed
    from .tester import JobTester
    from .threaded_worker import ThreadedWorker
    from .threaded_worker import Worker

__all__ = [
    "JobFailed",
    "JobTester",
    "ManualClock",
    "MovableClock",
    "ThreadedWorker",
    "Worker",
    "drain",
]

# At run time, as in the package above, and for the same reason.
_MODULES = {
    "JobFailed": "draining",
    "JobTester": "tester",
    "ManualClock": "clock",
    "MovableClock": "clock",
    "ThreadedWorker": "threaded_worker",
    "Worker": "threaded_worker",
    "drain": "draining",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
