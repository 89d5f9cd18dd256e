"""Storages, chosen by the scheme of ``TASKQ_BROKER_URL``.

Adding one: a module with an :class:`~flask_taskq.engines.base.Engine`, a line in
:data:`ENGINES`, and a line in ``tests/conformance/conftest.py``.
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

#: URL scheme -> module and class. The module, and the driver it needs, is imported when an
#: app asks for it.
ENGINES: Final = {
    "memory": ("memory", "MemoryEngine"),
    "sqlite": ("sqlite", "SQLiteEngine"),
    "redis": ("redis", "RedisEngine"),
    "rediss": ("redis", "RedisEngine"),
    "unix": ("redis", "RedisEngine"),
    "redis+sentinel": ("redis", "RedisEngine"),
}


def make_engine(settings: Settings, clock: Clock) -> Engine:
    """The engine that the broker's URL names. It is not connected yet.

    :raises ConfigurationError: no engine has this scheme, or the URL is not one for it.
    """
    scheme, separator, _ = settings.broker_url.partition("://")
    if not separator or scheme not in ENGINES:
        raise ConfigurationError(
            f"TASKQ_BROKER_URL: {redact_url(settings.broker_url)!r} begins with none of "
            + ", ".join(f"{known}://" for known in ENGINES)
        )
    module, name = ENGINES[scheme]
    engine = getattr(importlib.import_module(f".{module}", __name__), name)
    return cast(Engine, engine(settings, clock))
