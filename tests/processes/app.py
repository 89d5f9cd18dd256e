"""The application that the tests' workers run. It tells the test what its jobs do."""

import asyncio
import ctypes
import importlib
import json
import logging
import multiprocessing
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

from flask import Flask

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import signals
from flask_taskq import TaskQ
from flask_taskq.actors.broker import Broker
from flask_taskq.errors import JobCancelled
from flask_taskq.worker.threads.worker import Worker

taskq = TaskQ()


def create_app() -> Flask:
    app = Flask(__name__, instance_path=os.environ["TEST_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    tell("boot")
    if os.environ.get("TEST_SLOW_BOOT"):
        taskq.broker_for(app).add_middleware(SlowBoot())
    if gate := os.environ.get("TEST_GATE"):
        with open(gate) as file:
            file.read()
    if os.environ.get("TEST_THREAD"):
        threading.Thread(target=threading.Event().wait).start()
    if os.environ.get("TEST_BROKEN_APP"):
        raise RuntimeError("this factory is broken")
    return app


class SlowBoot(Middleware):
    """Takes its time when the worker has started."""

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        time.sleep(1)


def tell(event: str, **details: object) -> None:
    """Send an event to the test, as one datagram."""
    details |= {"event": event, "pid": os.getpid(), "at": time.monotonic()}
    if current_job:
        details |= {"job": current_job.id, "attempt": current_job.attempt}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(json.dumps(details).encode(), os.environ["TEST_RECORDER"])


@signals.worker_started.connect
def tell_of_start(app: Flask, **arguments: object) -> None:
    tell("worker-started", **arguments)


@signals.worker_stopping.connect
def tell_of_stop(app: Flask, **arguments: object) -> None:
    tell("worker-stopping", **arguments)


@signals.child_died.connect
def tell_of_death(app: Flask, **arguments: object) -> None:
    tell("child-died", **arguments)


@taskq.actor(time_limit=None)
def work(milliseconds: int) -> int:
    """A job of a known length."""
    tell("start")
    time.sleep(milliseconds / 1000)
    tell("end")
    return os.getpid()


@taskq.actor
def wait_for_line(fifo: str) -> str:
    """A job that lasts until the test writes a line."""
    tell("start")
    with open(fifo) as file:
        line = file.readline()
    tell("end")
    return line


@taskq.actor
def hold_gil(milliseconds: int) -> None:
    """A job in C code that lets no other thread of its process run."""
    tell("start")
    ctypes.PyDLL(None).usleep(milliseconds * 1000)
    tell("end")


@taskq.actor(max_retries=0)
def hang() -> None:
    """A job in C code that does not return, and lets the others run."""
    tell("start")
    ctypes.CDLL(None).sleep(600)


@taskq.actor(max_retries=0)
def hang_once() -> int:
    """A job that stops its whole process, but only once."""
    tell("start")
    if current_job.crashes == 0:
        ctypes.PyDLL(None).sleep(600)
    return current_job.crashes


@taskq.actor(time_limit=None)
def ask() -> None:
    """A job that asks all the time whether it should end."""
    tell("start")
    try:
        while True:
            current_job.check_cancelled()
            time.sleep(0.001)
    except JobCancelled:
        tell("told")
        raise


@taskq.actor(max_retries=3, min_backoff=600_000)
def fail() -> None:
    """A job that fails and waits long for its next try."""
    tell("start")
    raise RuntimeError("this job fails")


@taskq.actor
def crash() -> None:
    """A job that takes its process with it."""
    tell("start")
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


#: What jobs have left behind in the memory of their process.
hoard: list[bytes] = []


@taskq.actor
def keep(megabytes: int) -> None:
    """A job that leaks."""
    tell("start")
    hoard.append(b"x" * (megabytes << 20))


@taskq.actor
def log(text: str) -> None:
    """A job in which a library logs something."""
    logging.getLogger("some.library").info(text)


@taskq.actor
def import_module(name: str) -> None:
    """A job that imports something."""
    importlib.import_module(name)


@taskq.actor
def chain(length: int) -> None:
    """A job that sends the next one, as often as it is told."""
    tell("start")
    if length > 1:
        chain.send(length - 1)


@taskq.actor
def send_from_a_fork() -> int:
    """A job whose child process sends another job."""
    process = multiprocessing.get_context("fork").Process(target=work.send, args=(0,))
    process.start()
    process.join()
    return process.exitcode or 0


@taskq.actor
def terminate_a_fork() -> int | None:
    """A job that ends a child process that would stay for ever."""
    process = multiprocessing.get_context("fork").Process(target=signal.pause)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


@taskq.actor
def lose_thread(name: str) -> None:
    """A job with a library that ends what takes too long, and once hits another thread."""
    mark = pathlib.Path(os.environ["TEST_FOLDER"], "lost")
    if mark.exists():
        return
    mark.touch()
    here = threading.current_thread()
    victim = next(
        one
        for one in threading.enumerate()
        if one.name.startswith(name) and one is not here and one.ident is not None
    )
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(victim.ident or 0), ctypes.py_object(SystemExit)
    )
    tell("lost")


def end_child(how: str) -> None:
    """What a child process of a job does at its end, when it goes on as if it were the job."""
    if how == "raises":
        raise ValueError("in a child process")
    if how == "exits":
        sys.exit(5)


def wait_for_child(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@taskq.actor(max_retries=0)
def fork(how: str) -> int | None:
    """A job that forks; the exit code of its child process."""
    tell("start")
    if pid := os.fork():
        return wait_for_child(pid)
    end_child(how)
    return None


@taskq.actor(max_retries=0)
async def fork_on_the_loop(how: str) -> int | None:
    """Likewise, in the thread of the event loop."""
    tell("start")
    if pid := os.fork():
        return wait_for_child(pid)
    if how == "awaits":
        await asyncio.get_running_loop().create_future()
    if how == "yields":
        # The loop itself is not there any more to be asked for anything.
        await _Pass()
    end_child(how)
    return None


class _Pass:
    def __await__(self):  # type: ignore[no-untyped-def]
        yield


@taskq.actor(max_retries=0)
async def fork_beside_the_loop(how: str) -> int | None:
    """Likewise, in a thread that the event loop lends."""
    return await asyncio.to_thread(fork.fn, how)


@taskq.actor(max_retries=0)
async def tick(times: int) -> None:
    """A job that gives its thread to others again and again, and tells where it is."""
    tell("start")
    for _ in range(times):
        await asyncio.sleep(0)
        tell("tick")


@taskq.actor
def fork_and_crash() -> None:
    """A job whose child process ends before the job kills its own process."""
    tell("start")
    if pid := os.fork():
        wait_for_child(pid)
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()


@taskq.actor
def leave_orphans(fifo: str, count: int) -> None:
    """A job that leaves processes behind, which end when a line can be read from this."""
    for _ in range(count):
        subprocess.run(["sh", "-c", f"read line < {fifo} &"], check=True)


@taskq.actor
def exit_quietly() -> None:
    """A job that ends its process as if all were well."""
    tell("start")
    os._exit(0)


@taskq.actor(time_limit=None)
def close_descriptors() -> None:
    """A job that closes files which are not its own, and stays."""
    tell("start")
    os.closerange(3, 1_024)
    threading.Event().wait()


@taskq.actor
def write_to_sockets(text: str) -> int:
    """A job that writes to sockets which are not its own."""
    tell("start")
    for descriptor in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, text.encode())
        except OSError:
            pass
    return os.getpid()


@taskq.actor
def leave_a_thread() -> int:
    """A job that leaves a thread behind which never ends."""
    tell("start")
    threading.Thread(target=threading.Event().wait).start()
    return os.getpid()
