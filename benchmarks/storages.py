"""Where an engine keeps jobs, and the bare baseline there.

The baseline is the work of the engine without the engine: its statements or commands through
the driver, and nothing else of ours. A new engine adds a :class:`Storage` here and its line
in :data:`STORAGES`.
"""

from __future__ import annotations

import abc
import json
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from typing import cast
from typing import Final
from typing import Self

from redis import Redis

from flask_taskq.engines.sql import schema
from flask_taskq.engines.sql.rows import to_rows
from flask_taskq.engines.sql.schema import Tables
from flask_taskq.engines.sql.statements import Statements
from flask_taskq.engines.sql.transition_statements import Changes
from flask_taskq.engines.sql.transition_statements import to_values
from flask_taskq.jobs import lifecycle
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.jobs.message import generate_id
from flask_taskq.jobs.transitions import SUCCEED

#: How many jobs the baseline claims and settles in one step: as many as a busy worker.
BATCH: Final = 256


class Bare(abc.ABC):
    """One connection, for one thread, to the baseline of a storage."""

    @abc.abstractmethod
    def send(self, count: int) -> None:
        """Store jobs one by one, as durably as the engine does."""

    @abc.abstractmethod
    def send_many(self, count: int) -> None:
        """Store jobs in one step."""

    @abc.abstractmethod
    def drain(self) -> None:
        """Claim all jobs that wait and settle them."""

    @abc.abstractmethod
    def send_and_wake(self) -> None:
        """Store a job, and wake who waits for it."""

    @abc.abstractmethod
    def listen(self) -> None:
        """Be ready for :meth:`wait_and_claim`."""

    @abc.abstractmethod
    def wait_and_claim(self) -> int:
        """Wait for a job of another process's, claim it, and settle it.

        :return: when it was claimed, nanoseconds on the monotonic clock.
        """

    @abc.abstractmethod
    def close(self) -> None: ...


class Storage(abc.ABC):
    """A fresh place for jobs, which is gone when the block ends.

    :param url: as given on the command line; None for a place of its own.
    :param namespace: of the jobs.
    """

    #: For ``TASKQ_BROKER_URL``.
    url: str

    @classmethod
    def check(cls, url: str) -> str | None:
        """What is wrong with a URL; None if it can be measured."""
        return None

    @abc.abstractmethod
    def __init__(self, url: str | None, namespace: str) -> None: ...

    #: Of the server, if it is a process of this machine that can be watched.
    server: int | None = None
    #: The module of the driver.
    driver: str

    @abc.abstractmethod
    def bare(self, message: bytes) -> Callable[[], Bare]:
        """What makes a connection to the baseline, also in another process.

        :param message: the bytes of each job.
        """

    @abc.abstractmethod
    def bytes_used(self) -> int:
        """How much room everything takes that is stored."""

    @abc.abstractmethod
    def close(self) -> None:
        """Remove all of it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- SQLite ---


class SQLiteStorage(Storage):
    """A file in the folder for temporary files, or the one that the URL names."""

    driver = "sqlite3"

    @classmethod
    def check(cls, url: str) -> str | None:
        path = cls._find(url)
        if path.is_absolute() and not path.exists():
            return None
        return "name a file that does not exist, with four slashes; it is removed in the end"

    @staticmethod
    def _find(url: str) -> Path:
        return Path(url.removeprefix("sqlite:///").partition("?")[0])

    def __init__(self, url: str | None, namespace: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench"))
        self._path = self._folder / "jobs.sqlite3" if url is None else self._find(url)
        self.url = url or f"sqlite:///{self._path}"

    def bare(self, message: bytes) -> Callable[[], Bare]:
        return partial(BareSQLite, Path(f"{self._path}.bare"), message)

    def bytes_used(self) -> int:
        connection = sqlite3.connect(self._path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return self._path.stat().st_size

    def close(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(self._folder)


class BareSQLite(Bare):
    """The engine's own SQL on a table of the same schema, in another file."""

    def __init__(self, path: Path, message: bytes) -> None:
        self._message = message
        tables = Tables.of("bare")
        self._statements = Statements(tables)
        self._succeed = Changes(tables).fenced[SUCCEED]
        self._bell = str(path.with_suffix(".bell"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        is_new = not path.exists()
        self._connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = wal")
        self._connection.execute("PRAGMA synchronous = full")
        if is_new:
            for statement in schema.create(tables):
                self._connection.execute(statement)

    def send(self, count: int) -> None:
        for _ in range(count):
            self.send_many(1)

    def send_many(self, count: int) -> None:
        envelopes = [
            Envelope(
                id=generate_id(),
                queue="default",
                actor="noop",
                priority=0,
                message=self._message,
            )
            for _ in range(count)
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        last = self._connection.execute(self._statements.last_place).fetchone()[0]
        rows = [to_rows(one, last + 1 + n, 1) for n, one in enumerate(envelopes)]
        self._connection.executemany(self._statements.insert_job, [job for job, _ in rows])
        self._connection.executemany(self._statements.insert_live, [live for _, live in rows])
        self._connection.execute("COMMIT")

    def drain(self) -> None:
        # The engine's consumers do not wait for the disk either.
        self._connection.execute("PRAGMA synchronous = normal")
        claimed = self._claim([], BATCH)
        while claimed:
            claimed = self._claim(claimed, BATCH)
        self._connection.execute("PRAGMA synchronous = full")

    def send_and_wake(self) -> None:
        self.send(1)
        self._socket.sendto(b"!", self._bell)

    def listen(self) -> None:
        self._connection.execute("PRAGMA synchronous = normal")
        self._socket.bind(self._bell)

    def wait_and_claim(self) -> int:
        self._socket.recv(1)
        claimed = self._claim([], 1)
        now = time.monotonic_ns()
        self._claim(claimed, 1)
        return now

    def close(self) -> None:
        self._connection.close()
        self._socket.close()

    def _claim(self, held: list[int], limit: int) -> list[int]:
        """Settle what is held and claim more; the numbers of the new ones."""
        statements, (first, second, _) = self._statements, self._succeed
        assert second is not None
        guards = [(seq, "bare", 1) for seq in held]
        given = {"now": 1, "expires_at": 2, "result": b"null", "started_at": 1}
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(first.text, [first.values(given, one) for one in guards])
        self._connection.executemany(second, guards)
        claim = to_values(lifecycle.claim("bare", 1), 1, 0)
        values = statements.claim.values(claim, ("default", "ordinary", limit))
        claimed = [row[0] for row in self._connection.execute(statements.claim_next, values)]
        self._connection.execute(statements.claimed_jobs, (json.dumps(claimed),)).fetchall()
        self._connection.execute("COMMIT")
        return claimed


# --- Redis ---


class RedisStorage(Storage):
    """The server that the URL names: keys of its own there, which are removed in the end.

    The room is the server's memory, and its CPU is watched if it runs on this machine. Let
    nobody else use it meanwhile.
    """

    driver = "redis"

    def __init__(self, url: str | None, namespace: str) -> None:
        assert url is not None
        self.url = url
        self._namespace = namespace
        self._redis = Redis.from_url(url)
        self.server = _find_server(int(self._info("server", "process_id")))

    def bare(self, message: bytes) -> Callable[[], Bare]:
        return partial(BareRedis, self.url, f"bare:{{{self._namespace}}}:", message)

    def bytes_used(self) -> int:
        return int(self._info("memory", "used_memory"))

    def close(self) -> None:
        cursor, pattern = 0, f"*{{{self._namespace}}}*"
        while True:
            cursor, keys = cast(
                tuple[int, list[bytes]], self._redis.scan(cursor, pattern, count=10_000)
            )
            if keys:
                self._redis.unlink(*keys)
            if cursor == 0:
                break
        self._redis.close()

    def _info(self, section: str, name: str) -> Any:
        found: Any = self._redis.info(section)
        return found[name]


def _find_server(pid: int) -> int | None:
    """The process id, unless the server runs on another machine."""
    name = Path(f"/proc/{pid}/comm")
    return pid if name.exists() and "-server" in name.read_text() else None


class BareRedis(Bare):
    """A record, and a list of those that wait: as few commands as will do."""

    _SEND: Final = """
        for _, id in ipairs(cjson.decode(ARGV[2])) do
            if redis.call('SET', KEYS[1] .. id, ARGV[1], 'NX') then
                redis.call('RPUSH', KEYS[2], id)
            end
        end"""
    _CLAIM: Final = """
        for _, id in ipairs(cjson.decode(ARGV[1])) do
            redis.call('SET', KEYS[1] .. id, 'null', 'EX', 86400)
        end
        local found = {}
        for n, id in ipairs(redis.call('LPOP', KEYS[2], ARGV[2]) or {}) do
            found[n] = {id, redis.call('GET', KEYS[1] .. id)}
        end
        return found"""

    def __init__(self, url: str, prefix: str, message: bytes) -> None:
        # By default the driver gives up a wait that is longer than a few seconds.
        self._redis = Redis.from_url(url, socket_timeout=None)
        self._message = message
        self._keys = (f"{prefix}job:", f"{prefix}ready")
        self._sha = {text: self._redis.script_load(text) for text in (self._SEND, self._CLAIM)}

    def send(self, count: int) -> None:
        for _ in range(count):
            self.send_many(1)

    def send_many(self, count: int) -> None:
        ids = json.dumps([generate_id() for _ in range(count)])
        self._run(self._SEND, self._message, ids)

    def drain(self) -> None:
        claimed = self._run(self._CLAIM, "[]", BATCH)
        while claimed:
            held = json.dumps([job_id.decode() for job_id, _ in claimed])
            claimed = self._run(self._CLAIM, held, BATCH)

    def send_and_wake(self) -> None:
        self.send(1)

    def listen(self) -> None:
        self._redis.ping()

    def wait_and_claim(self) -> int:
        _, job_id = cast(tuple[bytes, bytes], self._redis.blpop([self._keys[1]]))
        self._redis.get(self._keys[0] + job_id.decode())
        now = time.monotonic_ns()
        self._run(self._CLAIM, json.dumps([job_id.decode()]), 1)
        return now

    def close(self) -> None:
        self._redis.close()

    def _run(self, text: str, *values: str | bytes | int) -> Any:
        return self._redis.evalsha(self._sha[text], 2, *self._keys, *values)


#: By the scheme of the URL.
STORAGES: Final[dict[str, type[Storage]]] = {
    "redis": RedisStorage,
    "rediss": RedisStorage,
    "unix": RedisStorage,
    "sqlite": SQLiteStorage,
}
