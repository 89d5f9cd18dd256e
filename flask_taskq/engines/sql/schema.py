"""The tables, and their migration from one version to the next."""

from __future__ import annotations

from typing import Final
from typing import NamedTuple

#: The version of the tables that this release uses. Each migration increases it.
SCHEMA_VERSION: Final = 2

#: The version from which the first migration starts. No release had older tables.
FIRST_VERSION: Final = 2


class Tables(NamedTuple):
    """The names of the tables of a namespace."""

    job: str
    live: str
    outcome: str
    worker: str
    pause: str
    meta: str

    @classmethod
    def of(cls, prefix: str) -> Tables:
        """Return the names with this prefix."""
        return cls(*(f"{prefix}_{name}" for name in cls._fields))


def create(tables: Tables) -> tuple[str, ...]:
    """Return the statements that create the tables of version :data:`FIRST_VERSION`."""
    job, live, outcome, worker, pause, meta = tables
    return (
        f"CREATE TABLE {meta} (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
        # The large columns come last, so that a read of the other columns accesses no overflow
        # page.
        f"""CREATE TABLE {job} (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            queue TEXT NOT NULL,
            actor TEXT NOT NULL,
            priority INTEGER NOT NULL,
            created_at BIGINT NOT NULL,
            max_attempts INTEGER,
            unique_key TEXT,
            message BLOB NOT NULL,
            error BLOB,
            attempts BLOB,
            logs BLOB
        )""",
        f"""CREATE TABLE {live} (
            seq INTEGER PRIMARY KEY,
            status TEXT NOT NULL,
            queue TEXT NOT NULL,
            lane TEXT NOT NULL DEFAULT 'ordinary',
            priority INTEGER NOT NULL,
            place INTEGER NOT NULL,
            scheduled_for BIGINT,
            attempt INTEGER NOT NULL DEFAULT 0,
            claim INTEGER NOT NULL DEFAULT 0,
            crashes INTEGER NOT NULL DEFAULT 0,
            suspects INTEGER NOT NULL DEFAULT 0,
            releases INTEGER NOT NULL DEFAULT 0,
            released_since BIGINT,
            cancel_requested INTEGER NOT NULL DEFAULT 0,
            worker TEXT,
            started_at BIGINT,
            updated_at BIGINT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1,
            status_reason TEXT,
            unique_key TEXT,
            progress BLOB
        )""",
        f"""CREATE INDEX {live}_ready ON {live} (queue, lane, priority, place)
            WHERE status = 'queued'""",
        f"""CREATE INDEX {live}_due ON {live} (scheduled_for, queue)
            WHERE status = 'scheduled'""",
        f"CREATE INDEX {live}_held ON {live} (worker) WHERE status = 'running'",
        f"""CREATE UNIQUE INDEX {live}_unique ON {live} (unique_key)
            WHERE unique_key IS NOT NULL""",
        f"""CREATE TABLE {outcome} (
            seq INTEGER PRIMARY KEY,
            status TEXT NOT NULL,
            finished_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            attempt INTEGER NOT NULL,
            claim INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            suspects INTEGER NOT NULL,
            cancel_requested INTEGER NOT NULL,
            worker TEXT,
            started_at BIGINT,
            version INTEGER NOT NULL,
            progress BLOB,
            result BLOB
        )""",
        f"CREATE INDEX {outcome}_ended ON {outcome} (status, finished_at)",
        # Leases are in milliseconds of the monotonic clock, which restarts when the machine
        # boots. The length is stored beside the end to detect leases from before a boot: such
        # an end can be further away than the length.
        f"""CREATE TABLE {worker} (
            id TEXT PRIMARY KEY,
            lease_until DOUBLE PRECISION NOT NULL,
            lease INTEGER NOT NULL,
            host TEXT NOT NULL DEFAULT '',
            info BLOB
        )""",
        f"CREATE TABLE {pause} (queue TEXT PRIMARY KEY)",
        f"""INSERT INTO {meta} VALUES ('place', 0), ('schema', {FIRST_VERSION}),
            ('oldest', {FIRST_VERSION})""",
    )


def migrate(tables: Tables, version: int) -> tuple[str, ...]:
    """Return the statements that migrate tables of an older version to the next version.

    :param version: the present version of the tables, from :data:`FIRST_VERSION` to the one
        before :data:`SCHEMA_VERSION`.
    """
    return tuple(text.format(**tables._asdict()) for text in MIGRATIONS[version])


#: The statements of the migration from each version, with the names of tables in braces. Each
#: migration ends with the statement of :func:`note`, which stores the new version.
MIGRATIONS: Final[dict[int, tuple[str, ...]]] = {}


def note(tables: Tables, version: int, oldest: int) -> str:
    """Return the statement that stores the present version of the tables.

    :param oldest: a release that supports this version or a later one can use the tables. A
        migration that only adds a nullable column or an index does not change this value.
    """
    return (
        f"UPDATE {tables.meta} SET value = CASE name WHEN 'schema' THEN {version}"
        f" ELSE {oldest} END WHERE name IN ('schema', 'oldest')"
    )
