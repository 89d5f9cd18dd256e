"""What an app's tests use."""

from .clock import ManualClock
from .draining import drain

__all__ = ["ManualClock", "drain"]
