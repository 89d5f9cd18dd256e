"""Storages, chosen by the scheme of ``TASKQ_BROKER_URL``, and of ``TASKQ_RESULTS_URL``.

Adding one: a module with an :class:`~flask_taskq.engines.base.Engine`, a line in
:data:`ENGINES`, and a line in ``tests/support/engines.py``.
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
from .base import StoringEngine

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
    """The engine of an app: the broker's, or that and the one for results.

    It is not connected yet. Jobs in memory are those of a test, which keeps their results
    there, too, whatever the app's configuration says.

    :raises ConfigurationError: no engine has the scheme of a URL, or it is not one for it.
    """
    broker = make_broker_engine(settings, clock)
    url = settings.results_url
    if url is None or url == settings.broker_url or not broker.is_shared:
        return broker
    results = make_broker_engine(settings.for_results(url), clock)
    if not results.is_shared:
        raise ConfigurationError(
            f"TASKQ_RESULTS_URL is {redact_url(url)}: records in memory are seen only by the"
            " process that moved them there. Leave the key empty to keep them with the jobs"
        )
    split = importlib.import_module(".split", __name__)
    return cast(Engine, split.SplitEngine(broker, results))


def make_broker_engine(settings: Settings, clock: Clock) -> StoringEngine:
    """The engine that the broker's URL names, alone.

    :raises ConfigurationError: as :func:`make_engine`.
    """
    scheme, separator, _ = settings.broker_url.partition("://")
    if not separator or scheme not in ENGINES:
        raise ConfigurationError(
            f"{settings.url_key}: {redact_url(settings.broker_url)!r} begins with none of "
            + ", ".join(f"{known}://" for known in ENGINES)
        )
    module, name = ENGINES[scheme]
    engine = getattr(importlib.import_module(f".{module}", __name__), name)
    return cast(StoringEngine, engine(settings, clock))
