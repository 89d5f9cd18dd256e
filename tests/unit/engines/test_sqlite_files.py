"""Where the SQLite engine keeps its file, and what it refuses."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines.sql import schema
from flask_taskq.engines.sql.schema import note
from flask_taskq.engines.sql.schema import SCHEMA_VERSION
from flask_taskq.engines.sqlite import files
from flask_taskq.engines.sqlite import SQLiteEngine
from flask_taskq.engines.sqlite.tables import find_tables
from flask_taskq.errors import ConfigurationError
from flask_taskq.errors import ConnectionFailed
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import retry

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
31 27 0:45 / /mnt/share rw,relatime shared:7 - nfs4 server:/export rw,vers=4.2
32 27 0:46 / /mnt/with\\040space rw - cifs //server/share rw
33 31 0:47 / /mnt/share/local rw - xfs /dev/vdb rw
34 27 0:48 / /srv rw - ext4 /dev/vdc rw
35 34 0:49 / /srv rw - overlay overlay rw
a line that is none
"""


def new_engine(path: Path | str, query: str = "", **settings: Any) -> SQLiteEngine:
    return SQLiteEngine(Settings(broker_url=f"sqlite:///{path}{query}", **settings), Clock())


@contextmanager
def opened(path: Path, query: str = "", **settings: Any) -> Iterator[Bench]:
    with new_engine(path, query, **settings) as engine:
        bench = Bench(engine)
        yield bench
        bench.close()


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask that would let everybody read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_making_an_engine_touches_no_file(tmp_path: Path) -> None:
    """It may be made in a process that never uses it."""
    new_engine(tmp_path / "folder" / "jobs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("open_umask")
def test_what_the_engine_creates_is_private(tmp_path: Path) -> None:
    """The database, its side files, its folders and the folder of the wake-up sockets."""
    path = tmp_path / "a" / "b" / "jobs"
    with opened(path) as bench:
        bench.send()
        bench.worker().fetch(1, 60_000)

        for suffix in ("", "-wal", "-shm"):
            assert mode(f"{path}{suffix}") == 0o600
        for folder in (path.parent, path.parent.parent, f"{path}.taskq"):
            assert mode(folder) == 0o700


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    """It is not ours."""
    tmp_path.chmod(0o755)
    with opened(tmp_path / "jobs") as bench:
        bench.send()
    assert mode(tmp_path) == 0o755


def test_a_folder_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    """Anybody could put another file in the place of ours."""
    tmp_path.chmod(0o777)
    with new_engine(tmp_path / "jobs") as engine:
        with pytest.raises(ConfigurationError, match="may be written by every user"):
            engine.connect()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_such_as_tmp_is_accepted(tmp_path: Path) -> None:
    """With the sticky bit, nobody else can replace our file."""
    tmp_path.chmod(0o1777)
    with opened(tmp_path / "jobs") as bench:
        bench.send()


def test_a_file_that_somebody_else_has_put_into_tmp_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are not ours to run."""
    tmp_path.chmod(0o1777)
    path = tmp_path / "jobs"
    path.touch()
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    if uid == 0:  # a file of root's is trusted
        os.chown(path, 12345, -1)
    with new_engine(path) as engine, pytest.raises(ConfigurationError, match="another user"):
        engine.connect()


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        ("/var/lib/app", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/app", "nfs4"),
        ("/mnt/shareware", "ext4"),
        ("/mnt/share/local/app", "xfs"),
        ("/mnt/with space/app", "cifs"),
        ("/srv/app", "overlay"),
        ("/", "ext4"),
    ],
)
def test_the_filesystem_is_that_of_the_nearest_mount(path: str, filesystem: str) -> None:
    """Of two on the same point, the later one covers the earlier."""
    assert files.find_filesystem(MOUNTS, path) == filesystem


def test_a_network_filesystem_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text says which, and what to do."""
    monkeypatch.setattr(files, "find_filesystem", lambda mountinfo, path: "nfs4")
    with new_engine(tmp_path / "jobs") as engine:
        with pytest.raises(ConfigurationError, match=r"\(nfs4\).*put the file on a local disk"):
            engine.connect()


def test_a_containers_own_layer_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its jobs go with the container."""
    monkeypatch.setattr(files, "find_filesystem", lambda mountinfo, path: "overlay")
    with opened(tmp_path / "jobs") as bench:
        bench.send()
        bench.claim()
        bench.engine.queues.depths()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "overlay" in caplog.text


@pytest.mark.parametrize("url", ["sqlite:///jobs", "sqlite:///", "sqlite:////var/lib/"])
def test_a_url_without_an_absolute_path_to_a_file_is_refused(url: str) -> None:
    """The settings have decided what it is relative to."""
    with pytest.raises(ConfigurationError, match="TASKQ_BROKER_URL"):
        SQLiteEngine(Settings(broker_url=url), Clock())


def test_options_win_over_the_url(tmp_path: Path) -> None:
    """Both are read."""
    query = "?busy_timeout=1&synchronous=normal"
    settings = Settings(
        broker_url=f"sqlite:///{tmp_path}/jobs{query}", broker_options={"busy_timeout": 2}
    )
    location = files.Location.from_settings(settings)
    assert location.path == f"{tmp_path}/jobs"
    assert location.options == files.Options(busy_timeout=2, synchronous="normal")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?bussy_timeout=1", "no option 'bussy_timeout', only busy_timeout, synchronous"),
        ("?busy_timeout=soon", "busy_timeout"),
        ("?busy_timeout=-1", "busy_timeout"),
        ("?synchronous=off", "synchronous"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path: Path, query: str, text: str) -> None:
    """At once, not at the first job."""
    with pytest.raises(ConfigurationError, match=text):
        new_engine(tmp_path / "jobs", query)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    path = tmp_path / "jobs"
    path.write_bytes(b"not a database" * 1000)
    with new_engine(path) as engine, pytest.raises(ConnectionFailed, match="not a database"):
        engine.connect()
    assert path.read_bytes() == b"not a database" * 1000


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The text names the path."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "jobs"
    with new_engine(path) as engine, pytest.raises(ConnectionFailed, match=str(path)):
        engine.connect()


def test_a_path_to_a_folder_is_refused(tmp_path: Path) -> None:
    """A database is a file."""
    with (
        new_engine(tmp_path) as engine,
        pytest.raises(ConnectionFailed, match="be opened|used"),
    ):
        engine.connect()


def made_by(path: Path, **versions: int) -> None:
    """Let a file have been made by a release of these versions of the tables."""
    with new_engine(path) as engine:
        engine.connect()
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, value in versions.items():
            statement = "UPDATE taskq_meta SET value = ? WHERE name = ?"
            assert connection.execute(statement, (value, name)).rowcount == 1


def test_a_schema_that_this_release_cannot_work_with_is_refused(tmp_path: Path) -> None:
    """Rather than half understood. The text says what to do."""
    made_by(tmp_path / "jobs", schema=99, oldest=98)

    with new_engine(tmp_path / "jobs") as engine:
        with pytest.raises(ConfigurationError, match="version 99, .* from version 98 .* newer"):
            engine.connect()


def test_a_newer_schema_that_older_releases_may_use_is_used(tmp_path: Path) -> None:
    """It has more than this one needs, and stays as it is."""
    path = tmp_path / "jobs"
    made_by(path, schema=99, oldest=SCHEMA_VERSION)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE taskq_job ADD COLUMN colour TEXT")

    bench = Bench(new_engine(path))
    bench.settle(done(bench.running()))
    bench.close()

    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT value FROM taskq_meta WHERE name = 'schema'"
        assert connection.execute(query).fetchone() == (99,)


def test_a_file_from_before_the_first_release_is_refused(tmp_path: Path) -> None:
    """Nothing in it is read, or changed; the text says what to do."""
    made_by(tmp_path / "jobs", schema=1)

    with new_engine(tmp_path / "jobs") as engine:
        with pytest.raises(ConfigurationError, match="before its first release"):
            engine.connect()


def test_an_older_schema_is_brought_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step, in one transaction; jobs that are in it are kept."""
    path = tmp_path / "jobs"
    bench = Bench(new_engine(path))
    job_id = bench.send()
    bench.close()
    newer = SCHEMA_VERSION + 1
    tables = find_tables("taskq")
    steps = ("ALTER TABLE {job} ADD COLUMN colour TEXT", note(tables, newer, SCHEMA_VERSION))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", newer)
    monkeypatch.setitem(schema.MIGRATIONS, SCHEMA_VERSION, steps)

    bench = Bench(new_engine(path))
    assert bench.claim().id == job_id
    bench.close()

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT colour FROM taskq_job").fetchall() == [(None,)]
        versions = dict(connection.execute("SELECT name, value FROM taskq_meta"))
    assert (versions["schema"], versions["oldest"]) == (newer, SCHEMA_VERSION)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Shop", "shop"),
        ("SHOP", "Shop"),
        ("sqlite", "sqlitE"),
        ("sqlite_jobs", "Sqlite_jobs"),
        ("taskq", "taskq$results"),
        ("tasK", "task$results"),
        ("select", "_1"),
    ],
)
def test_each_namespace_has_tables_of_its_own(tmp_path: Path, one: str, two: str) -> None:
    """Though SQLite takes no notice of capital letters, and keeps some names to itself."""
    path = tmp_path / "jobs.sqlite3"
    with opened(path, namespace=one) as first, opened(path, namespace=two) as second:
        job_id = first.send()
        assert second.engine.jobs.get(job_id) is None
        assert first.engine.queues.depths() == {"default": 1}
        assert second.engine.queues.depths() == {}
    with opened(path, namespace=one) as again:
        assert again.engine.jobs.get(job_id) is not None


def test_two_namespaces_share_a_file(tmp_path: Path) -> None:
    """Each has its own tables, next to those of the app."""
    path = tmp_path / "app"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE user (name TEXT)")
    connection.close()

    with opened(path, namespace="one") as one, opened(path, namespace="two") as two:
        job_id = one.send()
        assert two.engine.jobs.get(job_id) is None
        assert two.claim_all() == []

    connection = sqlite3.connect(path)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    ours = {name.removeprefix("sqlite_autoindex_") for name in names if name != "user"}
    assert ours and all(name.startswith(("one_", "two_")) for name in ours)


def test_what_a_deleted_database_left_behind_is_not_read(tmp_path: Path) -> None:
    """A stale log beside a new file belongs to another database."""
    path = tmp_path / "jobs"
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").write_bytes(b"stale" * 10_000)
    with opened(path) as bench:
        job_id = bench.send()
        assert bench.engine.jobs.get(job_id) is not None


def test_consumers_are_woken_in_a_deep_folder(tmp_path: Path) -> None:
    """Where the path is too long for the address of a socket."""
    path = tmp_path / ("deep" * 30) / "jobs"
    assert len(os.fsencode(path)) > 107
    with opened(path) as bench:
        bench.worker().fetch(1, 1)
        names = os.listdir(f"{path}.taskq")
        assert [stat.S_ISSOCK(os.stat(f"{path}.taskq/{name}").st_mode) for name in names] == [
            True
        ]


def test_the_socket_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    """By the next sender who is refused."""
    path = tmp_path / "jobs"
    with opened(path) as bench:
        bench.worker().fetch(1, 1)
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(f"{path}.taskq/dead")
        dead.close()

        bench.send()

        names = os.listdir(f"{path}.taskq")
        assert len(names) == 1 and "dead" not in names


def test_a_consumer_that_is_closed_leaves_no_socket(tmp_path: Path) -> None:
    """Its folder stays, for the next."""
    path = tmp_path / "jobs"
    with opened(path) as bench:
        bench.worker().fetch(1, 1)
        assert os.listdir(f"{path}.taskq") != []
    assert os.listdir(f"{path}.taskq") == []


def test_a_folder_that_others_may_write_has_no_sockets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs are found by looking, and one line says so."""
    path = tmp_path / "jobs"
    folder = Path(f"{path}.taskq")
    folder.mkdir()
    folder.chmod(0o777)
    with opened(path) as bench:
        assert bench.worker().fetch(1, 1) == []
        job_id = bench.send()
        assert [delivery.id for delivery in bench.worker().fetch(1, 60_000)] == [job_id]
    assert list(folder.iterdir()) == []
    assert len(caplog.records) == 1
    assert "no wake-up calls" in caplog.text


def test_two_releases_use_one_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer one adds a column while an older one works. Each runs the jobs of both, and
    leaves alone what it does not know."""
    path = tmp_path / "jobs"
    old = Bench(new_engine(path))
    first = old.send()
    newer = SCHEMA_VERSION + 1
    steps = (
        "ALTER TABLE {job} ADD COLUMN colour TEXT",
        note(find_tables("taskq"), newer, SCHEMA_VERSION),
    )
    with monkeypatch.context() as patch:
        patch.setattr(schema, "SCHEMA_VERSION", newer)
        patch.setitem(schema.MIGRATIONS, SCHEMA_VERSION, steps)
        new = Bench(new_engine(path))
        second = new.send(id="f" * 32)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE taskq_job SET colour = 'blue' WHERE id = ?", (second,))

    deliveries = old.worker("w1").fetch(2, 0)
    assert [delivery.id for delivery in deliveries] == [first, second]
    old.settle(*(retry(delivery, at=old.clock.now()) for delivery in deliveries))
    again = new.worker("w2").fetch(2, 0)
    assert {delivery.id for delivery in again} == {first, second}
    assert None not in new.settle(*map(done, again), name="w2").outcomes

    third = old.send(id="e" * 32)  # after the migration, with a connection from before it
    assert Bench(new_engine(path)).claim("w3").id == third
    assert [old.record(one).attempt for one in (first, second)] == [2, 2]
    with closing(sqlite3.connect(path)) as connection:
        colours = dict(connection.execute("SELECT id, colour FROM taskq_job"))
    assert colours == {first: None, second: "blue", third: None}
    old.close()
    new.close()
