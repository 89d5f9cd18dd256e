"""The engines that the suites for all engines run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from .redis_server import empty_redis

#: The broker's URL of a new, empty engine that may keep its files in this folder. An
#: engine joins the suites by its line here.
ENGINES: Final[dict[str, Callable[[Path], str]]] = {
    "memory": lambda folder: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder}/taskq.sqlite3",
    "redis": lambda folder: empty_redis(),
}
