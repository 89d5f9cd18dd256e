"""Redis servers of the tests' own, on free ports of this machine.

``TASKQ_TEST_REDIS_URL`` names a running server instead, whose databases are emptied.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis

#: Databases of a server that tests share; each empty one is the next, round and round.
DATABASES = 64

#: How long a server may take to start, or to end, in seconds.
NET = 30.0

_numbers = itertools.count()


def find_server() -> str:
    """The path of a server's program.

    Without one the test fails under ``CI=true``, and is skipped elsewhere.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    reason = "no redis-server is installed: apt-get install redis-server, or make servers"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A port of this machine on which nothing listens now.

    It is below those that systems give to a process without a wish: one of them could be taken
    before the server has started, or while it is away. So is the port of a cluster's node
    for other nodes, 10,000 above.
    """
    # Not by the seed of the tests: of two runs at the same time both would take the same.
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(10_000, 22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """A private server, in a folder of its own.

    :param options: settings as in its configuration file, such as ``appendonly="yes"``.
    """

    def __init__(self, port: int | None = None, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tqredis"))
        self.port = port or free_port()
        self.options = {
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "databases": str(DATABASES),
            "save": "",
            "daemonize": "no",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def connect(self, db: int = 0) -> redis.Redis:
        """A client, for a test that looks behind the engine."""
        password = self.options.get("requirepass")
        return redis.Redis(port=self.port, db=db, password=password)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [find_server(), *self._arguments()],
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        until = time.monotonic() + NET
        with self.connect() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert self.process.poll() is None, self.log
                    assert time.monotonic() < until, self.log
                    time.sleep(0.01)

    def _arguments(self) -> list[str]:
        arguments = ["--port", str(self.port)]
        for name, value in self.options.items():
            arguments += [f"--{name}", *(value.split() or [""])]
        return arguments

    def kill(self) -> None:
        """End it at once, as a power cut would, but for what the kernel holds."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(NET)
            self.process = None

    def close(self) -> None:
        """End it, and remove its folder."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Sentinel(RedisServer):
    """Watches a server, alone, and calls for a failover when it was away for a while.

    :param service: the name that it gives to the server.
    """

    def __init__(self, watched: RedisServer, service: str) -> None:
        self.watched = watched
        self.service = service
        super().__init__()

    def _arguments(self) -> list[str]:
        path = self.folder / "sentinel.conf"
        if not path.exists():
            name = self.service
            path.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor {name} 127.0.0.1 {self.watched.port} 1\n"
                f"sentinel down-after-milliseconds {name} 500\n"
                f"sentinel failover-timeout {name} 3000\n"
            )
        return [str(path), "--sentinel"]


@functools.cache
def _shared() -> tuple[str, int]:
    """The server for tests that do it no harm, and how many databases it has."""
    if url := os.environ.get("TASKQ_TEST_REDIS_URL"):
        with redis.Redis.from_url(url) as client:
            count = int(client.config_get("databases")["databases"])
        base, _, number = url.rpartition("/")
        return (base if number.isdigit() else url.rstrip("/")), count
    server = RedisServer()
    atexit.register(server.close)
    return server.url.rpartition("/")[0], DATABASES


def empty_redis() -> str:
    """The URL of a database with nothing in it, on a server that tests share."""
    base, count = _shared()
    url = f"{base}/{next(_numbers) % count}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def _end_with_parent() -> None:
    # A run of tests that is killed leaves no server behind.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
