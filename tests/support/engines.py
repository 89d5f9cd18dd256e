"""The engines that the suites for all engines run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import Final

from flask_taskq.engines.split import SplitEngine

from .redis_server import empty_redis

#: The broker's URL of a new, empty engine that may keep its files in this folder. An
#: engine joins the suites by its line here.
ENGINES: Final[dict[str, Callable[[Path], str]]] = {
    "memory": lambda folder: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder}/taskq.sqlite3",
    "redis": lambda folder: empty_redis(),
}


def move_at_once(engine: SplitEngine) -> SplitEngine:
    """Let every record have moved that can, whenever somebody asks for one or sends."""
    engine.enqueue = _after_moving(engine, engine.enqueue)  # type: ignore[method-assign]
    for name in ("get", "wait", "cancel", "prune"):
        setattr(engine.jobs, name, _after_moving(engine, getattr(engine.jobs, name)))
    return engine


def _after_moving(engine: SplitEngine, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        while engine.move():
            pass
        return method(*args)

    return call
