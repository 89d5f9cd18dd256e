"""What the supervisor starts: builds the app and runs its jobs."""

from __future__ import annotations

import argparse
import io
import logging
import os
import socket
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress

import msgspec
from flask import Flask
from flask.cli import NoAppException
from flask.cli import ScriptInfo

from ..actors.broker import Broker
from ..app.extension import TaskQ
from ..app.loading import import_actors
from ..config import redact_url
from ..errors import ConfigurationError
from ..errors import TaskQError
from ..loggers import get_logger
from ..logs import JobFilter
from ..middleware.callbacks import check_callbacks
from ..worker.log_output import WorkerLog
from ..worker.processes import child as process
from ..worker.processes.channel import Checked
from ..worker.processes.channel import ChildSpec
from ..worker.processes.channel import Configured
from ..worker.processes.channel import ControlChannel
from ..worker.processes.channel import Refused
from .factory import FactoryNotFound
from .factory import FactoryPath
from .factory import load_factory

# This module runs as __main__.
logger = get_logger("flask_taskq.cli.worker_child")

#: How long a child may take to end once its worker has, in seconds. A thread that an app
#: left running would keep it for ever.
_EXIT_TIME = 2.0

#: How often the beginning of a line is written that jobs have printed, in seconds.
_FLUSH = 0.5


class CannotWork(Exception):
    """Why this process cannot work, for the supervisor."""

    def __init__(self, refused: Refused) -> None:
        self.refused = refused


def main() -> None:
    """Serve a supervisor, and end."""
    process.ignore_signals()
    with Output():
        code = _work()
    _end_soon(code)
    if code:
        raise SystemExit(code)


def _work() -> int:
    """Build the app, and work for the supervisor until it says otherwise.

    :return: the exit code of the process.
    """
    arguments = _parse_arguments()
    log = WorkerLog(arguments.log_level, arguments.log_format, JobFilter())
    spec = msgspec.json.decode(arguments.spec, type=ChildSpec)
    channel = _open_link(spec)
    if spec.check:
        check(arguments, spec, channel)
        return 0
    try:
        app = _load_app(arguments)
        broker = _find_broker(app)
        _import_actors(app, broker)
        _refuse_patches()
        log.complete()
        _connect(broker, spec.worker_id, spec.connect_timeout)
    except CannotWork as error:
        channel.send(error.refused)
        return 1
    channel.send(_describe(broker))
    broker.emit_after("process_boot")
    process.serve(broker, channel, spec, log)
    return 0


def check(arguments: argparse.Namespace, spec: ChildSpec, channel: ControlChannel) -> None:
    """Build the app, reach the engine, and say what was found, as far as that goes."""
    modules: list[str] = []
    raised: list[str] = []
    warnings.showwarning = lambda message, *_, **__: raised.append(str(message))
    try:
        app = _load_app(arguments)
        broker = _find_broker(app)
        modules = _import_actors(app, broker)
        _refuse_patches()
        modules = sorted({*modules, *(one.fn.__module__ for one in broker.actors.values())})
        channel.send(_describe(broker))
        _connect(broker, spec.worker_id, spec.connect_timeout)
        broker.engine.workers.hand_back(spec.worker_id, (), "checked")
    except CannotWork as error:
        channel.send(error.refused)
    channel.send(Checked(modules, raised))


def _describe(broker: Broker) -> Configured:
    # The supervisor has no use for middleware, and not every instance could travel.
    settings = msgspec.structs.replace(broker.settings, middleware=(), default_middleware=None)
    actors = {name: actor.queue_name for name, actor in broker.actors.items()}
    return Configured(settings, sorted(broker.get_declared_queues()), actors)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A process of flask taskq worker.")
    parser.add_argument("--app")
    parser.add_argument("--factory")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="text")
    parser.add_argument("--spec", required=True)
    return parser.parse_args()


def _open_link(spec: ChildSpec) -> ControlChannel:
    # Programs that a job starts must not keep these open.
    for descriptor in (spec.channel, spec.slots):
        os.set_inheritable(descriptor, False)
    return ControlChannel(socket.socket(fileno=spec.channel))


def _load_app(arguments: argparse.Namespace) -> Flask:
    info = ScriptInfo(app_import_path=arguments.app)
    try:
        if arguments.factory is not None:
            place = msgspec.json.decode(arguments.factory, type=FactoryPath)
            info.create_app, info.set_debug_flag = load_factory(place), place.set_debug_flag
        return info.load_app()
    except FactoryNotFound as error:
        raise CannotWork(Refused("usage", str(error))) from None
    except NoAppException as error:
        # Flask raises the same error for an app that is not there and for one whose import
        # failed; only the first is the command's fault.
        nothing_there = not error.message.startswith("While importing")
        raise CannotWork(Refused("usage" if nothing_there else "app", error.message)) from None
    except ConfigurationError as error:
        raise CannotWork(Refused("app", str(error))) from None
    except BaseException:
        raise CannotWork(Refused("app", traceback.format_exc())) from None


def _find_broker(app: Flask) -> Broker:
    taskq = app.extensions.get("taskq")
    if not isinstance(taskq, TaskQ):
        text = f"the app {app.name!r} has no TaskQ: call TaskQ(app) or taskq.init_app(app)"
        raise CannotWork(Refused("usage", text))
    broker = taskq.broker_for(app)
    if broker.settings.eager:
        text = (
            "TASKQ_EAGER is on: jobs run where they are sent, and none is left for a worker."
            " Turn it off in the app of the worker and in that of the web server"
        )
        raise CannotWork(Refused("usage", text))
    if not broker.engine.is_shared:
        url = redact_url(broker.settings.broker_url)
        text = (
            f"TASKQ_BROKER_URL is {url}: jobs in memory are seen only by the process that"
            " sent them, and a worker is another one. Leave the key empty for an SQLite"
            " file, or run the jobs of a test with flask_taskq.testing"
        )
        raise CannotWork(Refused("usage", text))
    return broker


def _import_actors(app: Flask, broker: Broker) -> list[str]:
    try:
        imported = import_actors(broker.settings.actors)
        app.extensions["taskq"].broker_for(app)  # which takes over the shared ones of these
        check_callbacks(broker)
        return imported
    except ConfigurationError as error:
        raise CannotWork(Refused("app", str(error))) from None
    except BaseException:
        raise CannotWork(Refused("app", traceback.format_exc())) from None


#: Libraries that replace parts of the standard library, the module that does it for each, and
#: its function that says whether it has done so.
_PATCHES = {
    "gevent": ("gevent.monkey", "is_module_patched"),
    "eventlet": ("eventlet.patcher", "is_monkey_patched"),
}

#: What a worker's threads need as it is.
_UNPATCHED = ("threading", "thread", "_thread", "queue", "select", "socket", "time", "os")


def _refuse_patches() -> None:
    for name, (module, function) in _PATCHES.items():
        # Not imported here: code that patches it has imported it.
        is_patched = getattr(sys.modules.get(module), function, None)
        if is_patched is None:
            continue
        patched = [one for one in _UNPATCHED if is_patched(one)]
        if patched:
            text = (
                "importing the app has replaced parts of Python's standard library by those of"
                f" {name} ({', '.join(patched)}). A worker runs jobs in real threads, which"
                " these do not go with. Patch in the program that needs it instead of in the"
                " app, such as in Gunicorn's configuration file"
            )
            raise CannotWork(Refused("usage", text))


def _connect(broker: Broker, worker_id: str, timeout: int) -> None:
    """Reach the engine and register, with patience.

    :param timeout: milliseconds; 0 for no limit.
    """
    until = broker.clock.monotonic() + timeout
    delay = 0.1
    while True:
        try:
            broker.engine.connect()
            # It is not enough to reach it: a database may be there and locked.
            return broker.engine.workers.register(worker_id)
        except ConfigurationError as error:
            raise CannotWork(Refused("usage", str(error))) from None
        except TaskQError as error:
            left = (until - broker.clock.monotonic()) / 1000
            if timeout and left <= 0:
                raise CannotWork(Refused("engine", str(error))) from None
            logger.warning("cannot connect, will try again: %s", error)
            time.sleep(min(delay, left) if timeout else delay)
            delay = min(delay * 2, 5.0)


class Output:
    """Sees that what jobs print is soon where standard output goes: a file, or a pipe.

    A line is there at once. What does not end one is within half a second.
    """

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Not unbuffered: print() would write a line and its end apart.
                stream.reconfigure(line_buffering=True)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="taskq-output", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        # The end of the process flushes, too, and must not find the streams in use.
        self._closed.set()
        self._thread.join(_EXIT_TIME / 2)

    def _work(self) -> None:
        while not self._closed.wait(_FLUSH):
            for stream in (sys.stdout, sys.stderr):
                # An app may have put anything in their place, or closed them.
                with suppress(Exception):
                    stream.flush()


def _end_soon(code: int) -> None:
    try:
        logging.shutdown()
    except Exception:
        # A handler of the app's. It is no reason to end as if jobs had been lost.
        traceback.print_exc()
    timer = threading.Timer(_EXIT_TIME, os._exit, (code,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
