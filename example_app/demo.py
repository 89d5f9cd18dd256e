"""``make demo``: the app's web server and a worker in one terminal, until Ctrl-C."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Final
from urllib.parse import urlsplit

from gunicorn.config import make_settings  # type: ignore[import-untyped]

#: What ends the demo. Any further one while it ends says nothing new: a program that starts
#: this one may well pass on a Ctrl-C that arrived here already.
STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: How long web server and worker may take to end, in seconds, and how long they plan to:
#: that of gunicorn in seconds, that of the worker in milliseconds.
PATIENCE: Final = 1.5
GRACEFUL_TIMEOUT: Final = "1"
GRACE: Final = "500"

#: How long the page may take to answer for the first time, in seconds.
START_TIME: Final = 60

#: A program, and what to call it.
Child = tuple[str, subprocess.Popen[bytes]]


def main() -> int:
    """Run the demo.

    :return: the exit code: 0 after a signal, 1 if something ended by itself.
    """
    # Handlers only note what came: SimpleQueue.put() is one of the few calls that is safe
    # in them. They are set before anything starts, so that nothing is left behind.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (*STOP, signal.SIGCHLD):
        signal.signal(number, lambda number, _: signals.put(number))
    port = os.environ.get("PORT") or "5000"
    try:
        listener = listen(int(port))
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a number from 0 to 65535"
        print(f"Port {port}: {reason}. Choose another: make demo PORT=5001", file=sys.stderr)
        return 1
    address = "http://{}:{}/".format(*listener.getsockname())
    os.environ.setdefault("FLASK_OWN_URL", address.rstrip("/"))
    children = [start_web(listener), start_worker()]
    listener.close()
    pipe = guard(children)
    threading.Thread(target=announce, args=(address,), daemon=True).start()
    try:
        return wait(signals, children)
    finally:
        stop(children)
        with suppress(BrokenPipeError):
            os.write(pipe, b".")


def listen(port: int) -> socket.socket:
    """Open the port here, where a busy one is an error at once, and nobody can take it.

    :param port: 0 for any that is free.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def start_web(listener: socket.socket) -> Child:
    number = listener.fileno()
    options = ["--bind", f"fd://{number}", "--worker-class", "gthread", "--threads", "4"]
    options += ["--graceful-timeout", GRACEFUL_TIMEOUT, "--access-logfile", "-"]
    options += ["--access-logformat", '%(t)s "%(r)s" %(s)s']
    if "control_socket_disable" in make_settings():
        # Newer versions put one into the home folder, which is not a demo's to fill.
        options.append("--no-control-socket")
    return "the web server", start("gunicorn", *options, "example_app:create_app()", fd=number)


def start_worker() -> Child:
    options = ["--processes", "1", "--threads", "4", "--grace", GRACE]
    return "the worker", start("flask", "--app", "example_app", "taskq", "worker", *options)


def start(module: str, *arguments: str, fd: int | None = None) -> subprocess.Popen[bytes]:
    # In a session of its own, so that Ctrl-C in the terminal reaches this process only. It
    # sends one SIGTERM then; of two, a worker takes the second as "at once".
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=() if fd is None else (fd,),
        start_new_session=True,
    )


def announce(address: str) -> None:
    """Print the address once it answers."""
    # Not urllib's, which would ask a proxy for it where the environment names one.
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=START_TIME)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        if connection.getresponse().status == 200:
            print(f"\n    {address}    Ctrl-C ends it\n", flush=True)
    connection.close()


def wait(signals: SimpleQueue[int], children: list[Child]) -> int:
    """Until a signal asks for the end, or a child ended by itself."""
    while signals.get() not in STOP:
        for name, process in children:
            if process.poll() is not None:
                code = process.returncode
                print(f"{name} ended with exit code {code}: stopping", file=sys.stderr)
                return 1
    return 0


def stop(children: list[Child]) -> None:
    for _, process in children:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for _, process in children:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        # What is left of the group: a job that does not end will run again.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def guard(children: list[Child]) -> int:
    """Leave nothing behind even if this process is killed and can do nothing about it.

    A small process waits at the end of a pipe, which closes with the death of this one. (The
    children cannot do that themselves, and to be told of a parent's death is Linux only.)

    :return: the pipe; anything written to it says that the children have ended.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.close(writer)
            os.setsid()
            if not os.read(reader, 1):
                for _, process in children:
                    os.kill(process.pid, signal.SIGTERM)
        finally:
            os._exit(0)
    os.close(reader)
    return writer


if __name__ == "__main__":
    sys.exit(main())
