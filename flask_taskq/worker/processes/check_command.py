"""``flask taskq worker --check``: builds the app once, in a child, and reports on it."""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable
from collections.abc import Sequence
from typing import Final
from typing import TypeVar

from ...clock import Clock
from ...engines import make_engine
from ...loggers import get_logger
from ..liveness import generate_worker_id
from .channel import Checked
from .channel import ChildSpec
from .channel import Configured
from .channel import ControlMessage
from .channel import Refused
from .channel import UnreadableMessageError
from .os_signals import catch_signals
from .os_signals import SignalReader
from .spawn import spawn
from .startup_report import describe_engine
from .startup_report import describe_processes
from .startup_report import find_warnings
from .supervisor import describe_death
from .supervisor import EXIT_ENGINE
from .supervisor import EXIT_OK
from .supervisor import EXIT_SIGNALLED
from .supervisor import EXIT_USAGE
from .supervisor import SupervisorOptions

logger = get_logger(__name__)

_END: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

W = TypeVar("W", bound=ControlMessage)


def check(options: SupervisorOptions, clock: Clock, show: Callable[[str, str], None]) -> int:
    """Let a child build the app and reach the engine.

    :param show: called with a name and a value for each thing that is found.
    :return: the exit code of the command.
    """
    spec = ChildSpec(
        worker_id=generate_worker_id(),
        threads=options.threads,
        queues=options.queues,
        grace=options.grace,
        connect_timeout=options.connect_timeout,
        check=True,
    )
    messages: list[ControlMessage] = []
    # Before the child is started: otherwise a signal could end this process without it.
    with catch_signals() as signals, selectors.DefaultSelector() as selector:
        child = spawn(options.command, spec)
        selector.register(signals, selectors.EVENT_READ)
        selector.register(child.channel, selectors.EVENT_READ)
        try:
            while child.channel.is_open or child.process.poll() is None:
                ready = [key.fileobj for key, _ in selector.select()]
                if child.channel in ready:
                    try:
                        messages += child.channel.receive()
                    except UnreadableMessageError as error:
                        logger.error("building the app has written to its supervisor %s", error)
                        child.kill()
                    if not child.channel.is_open:
                        selector.unregister(child.channel)
                if signals in ready and (number := _find_end(signals)) is not None:
                    child.kill()
                    return EXIT_SIGNALLED + number
        finally:
            code = child.process.wait()
            child.release()
    return _report(options, clock, messages, code, show)


def _report(
    options: SupervisorOptions,
    clock: Clock,
    messages: list[ControlMessage],
    code: int,
    show: Callable[[str, str], None],
) -> int:
    refusal = _find(messages, Refused)
    found = _find(messages, Configured)
    if found is not None:
        engine = make_engine(found.settings, clock)
        reached = "" if refusal or code else ": reached"
        if refusal is not None and refusal.reason == "engine":
            reached = ": not reached"
        show("engine", describe_engine(engine) + reached)
        show("queues", _list(options.queues or found.queues))
        actors = [f"{name} ({queue})" for name, queue in sorted(found.actors.items())]
        show("actors", _list(actors))
        warnings = find_warnings(options.queues, found)
        if (more := _find(messages, Checked)) is not None:
            show("modules", _list(more.modules))
            warnings += more.warnings
        processes = (options.processes, options.threads, options.processes_reason)
        show("processes", describe_processes(*processes))
        for warning in warnings:
            show("warning", warning)
    if refusal is not None:
        logger.error("%s", refusal.text)
        return EXIT_ENGINE if refusal.reason == "engine" else EXIT_USAGE
    if code:
        logger.error("the process that was to build the app ended: %s", describe_death(code))
    return EXIT_USAGE if code else EXIT_OK


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _find_end(signals: SignalReader) -> int | None:
    return next((number for number in signals.read() if number in _END), None)


def _find(messages: list[ControlMessage], kind: type[W]) -> W | None:
    return next((message for message in messages if isinstance(message, kind)), None)
