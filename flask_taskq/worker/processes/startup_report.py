"""The lines and warnings that a worker logs when it starts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ...config import redact_url
from ...engines.base import Engine
from .channel import Configured


def describe_engine(engine: Engine) -> str:
    """The kind of the engine, and its URL without secrets."""
    kind = type(engine).__name__.removesuffix("Engine")
    return f"{kind}, {redact_url(engine.settings.broker_url)}"


def describe_processes(processes: int, threads: int, reason: str) -> str:
    """The number of processes, and of the threads of each.

    :param reason: why there are as many processes.
    """
    return f"{_count(processes, 'process', 'es')} of {_count(threads, 'thread')} ({reason})"


def describe_queues(queues: Sequence[str]) -> str:
    """Their names, in the order in which they are given."""
    return f"queue{'s' * (len(queues) != 1)} {', '.join(queues) or 'none'}"


def describe_start(
    found: Configured, queues: Sequence[str], engine: Engine, processes: str
) -> str:
    """What a worker runs, on one line.

    :param processes: as :func:`describe_processes` says it.
    """
    actors = _count(len(found.actors), "actor")
    return "; ".join([actors, describe_queues(queues), describe_engine(engine), processes])


def find_warnings(queues: Sequence[str] | None, found: Configured) -> list[str]:
    """Reasons why some jobs may never run.

    :param queues: those that the command line names; None is all of the app's.
    """
    warnings = []
    if not found.actors:
        warnings.append(
            "the app has no actors: no job can run here. TASKQ_ACTORS names the modules that"
            " have some, and that the app does not import"
        )
    for name in queues or ():
        if name not in found.queues:
            near = difflib.get_close_matches(name, found.queues, n=1)
            if near:
                hint = f"did you mean {near[0]!r}?"
            else:
                hint = f"the app has {describe_queues(found.queues)}"
            warnings.append(f"no actor of the app has the queue {name!r} of --queues; {hint}")
    return warnings


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"
