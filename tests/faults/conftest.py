"""Every test of this folder leaves a history, and runs for each engine that workers share."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.machine_time import start_pulse
from tests.support.redis_contents import verify_redis
from tests.support.redis_server import empty_redis

from .harness import Rig
from .harness import Scale
from .harness import Storage

#: ``make faults`` takes as long as it takes.
IS_LONG = os.environ.get("FAULTS") == "long"

SHORT = Scale(kills=4, pace=1, jobs=1_000, seconds=1, judges_rates=False)
LONG = Scale(kills=60, pace=6, jobs=20_000, seconds=60, judges_rates=True)


@contextmanager
def lock_sqlite(path: Path) -> Iterator[None]:
    """The holder of the lock of the file knows that no other process has it."""
    locker = sqlite3.connect(path, isolation_level=None, timeout=60)
    locker.execute("BEGIN IMMEDIATE")
    yield
    locker.execute("ROLLBACK")
    locker.close()


def verify_sqlite(path: Path) -> None:
    """SQLite's own opinion of the file."""
    with closing(sqlite3.connect(path)) as connection:
        [[opinion]] = connection.execute("PRAGMA integrity_check").fetchall()
    assert opinion == "ok"


def make_sqlite(folder: Path) -> Storage:
    path = folder / "taskq.sqlite3"
    return Storage(
        f"sqlite:///{path}", partial(verify_sqlite, path), partial(lock_sqlite, path)
    )


def make_redis(folder: Path) -> Storage:
    url = empty_redis()
    # How many connections are open would depend on how many threads happen to send at once.
    return Storage(f"{url}?max_connections=1", partial(verify_redis, url))


#: A new and empty storage that may keep its files in this folder. An engine joins by its
#: line here.
STORAGES: dict[str, Callable[[Path], Storage]] = {"sqlite": make_sqlite, "redis": make_redis}

FIGURES = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long, or a machine of its own, is left to ``make faults``."""
    if not IS_LONG:
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session", autouse=True)
def pulse() -> None:
    """Promises of time are judged by what the machine has time for."""
    start_pulse()


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, folder: Path) -> Storage:
    """The engine under test."""
    return STORAGES[request.param](folder)


@pytest.fixture(scope="session")
def scale() -> Scale:
    """How much of everything."""
    return LONG if IS_LONG else SHORT


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: sockets are made in it."""
    path = Path(tempfile.mkdtemp(prefix="tq"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def rig(request: pytest.FixtureRequest, folder: Path, storage: Storage) -> Iterator[Rig]:
    """Web servers, workers and faults. What they do by chance follows from the seed of the
    test run: ``--randomly-seed`` repeats it."""
    seed = random.getrandbits(32)
    print(f"seed of the rig: {seed}")
    rig = Rig(folder, storage, seed)
    yield rig
    rig.close()
    figures = request.config.stash.setdefault(FIGURES, [])
    figures += [f"{request.node.name}: {figure}" for figure in rig.figures]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What the faults have cost."""
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("faults")
        for line in figures:
            terminalreporter.write_line(line)
