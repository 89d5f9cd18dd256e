"""The storage engines. The scheme of ``TASKQ_BROKER_URL`` selects one of them.

To add an engine, write a module with an :class:`~flask_taskq.engines.base.Engine`, add a line
to :data:`ENGINES`, and add a line to ``tests/support/engines.py``.
"""

from __future__ import annotations

import importlib
from typing import cast
from typing import Final

from ..clock import Clock
from ..config import redact_url
from ..config import Settings
from ..errors import ConfigurationError
from .base import Engine

#: The module and the class for each URL scheme. The module and its driver are imported only
#: when an app uses them.
ENGINES: Final = {
    "memory": ("memory", "MemoryEngine"),
    "sqlite": ("sqlite", "SQLiteEngine"),
    "redis": ("redis", "RedisEngine"),
    "rediss": ("redis", "RedisEngine"),
    "unix": ("redis", "RedisEngine"),
    "redis+sentinel": ("redis", "RedisEngine"),
}


def make_engine(settings: Settings, clock: Clock) -> Engine:
    """Create the engine that ``TASKQ_BROKER_URL`` names, without connecting it.

    :raises ConfigurationError: no engine has the scheme of the URL, or the value of another key
        conflicts with the engine.
    """
    scheme, separator, _ = settings.broker_url.partition("://")
    if not separator or scheme not in ENGINES:
        raise ConfigurationError(
            f"{settings.url_key}: {redact_url(settings.broker_url)!r} begins with none of "
            + ", ".join(f"{known}://" for known in ENGINES)
        )
    module, name = ENGINES[scheme]
    engine = getattr(importlib.import_module(f".{module}", __name__), name)
    made = cast(Engine, engine(settings, clock))
    # Tests run an app on the memory engine with its configuration unchanged, so that engine
    # ignores the key.
    if settings.results_url is not None and made.is_shared:
        raise ConfigurationError(
            f"TASKQ_RESULTS_URL is {redact_url(settings.results_url)!r}, and {scheme}:// keeps"
            " the record of a job with the job itself, so that each change of it is one atomic"
            " step. Leave the key empty: it is for brokers that keep no records"
        )
    return made
