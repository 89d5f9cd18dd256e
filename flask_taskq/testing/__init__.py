"""What an app's tests use."""

from .clock import ManualClock
from .clock import MovableClock
from .draining import drain
from .tester import JobTester
from .threaded import ThreadedWorker

__all__ = ["JobTester", "ManualClock", "MovableClock", "ThreadedWorker", "drain"]
