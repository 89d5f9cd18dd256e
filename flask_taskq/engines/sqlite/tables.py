"""The tables in the file: their names, and whether this release can work with them."""

from __future__ import annotations

import re
import sqlite3

from ...errors import ConfigurationError
from ..sql import schema
from ..sql.schema import Tables


def find_tables(namespace: str) -> Tables:
    """The names of a namespace's tables.

    SQLite does not distinguish upper and lower case there, and keeps what begins with
    ``sqlite_`` to itself. Two namespaces never get the same: no app's has a ``$``.
    """
    prefix = re.sub("[A-Z]", lambda letter: letter[0].lower() + "$$", namespace)
    return Tables.of(re.sub("^sqlite(?=_|$)", "sqlite$$$", prefix))


def prepare_tables(connection: sqlite3.Connection, tables: Tables, path: str) -> None:
    """Make the tables, or bring those of an older release to the version of this one.

    :raises ConfigurationError: this release cannot work with them.
    """
    if _find_version(connection, tables, path) == schema.SCHEMA_VERSION:
        return
    # Several processes may start at once: the first to have the lock does it.
    connection.execute("BEGIN IMMEDIATE")
    version = _find_version(connection, tables, path)
    if version is None:
        for statement in schema.create(tables):
            connection.execute(statement)
        version = schema.FIRST_VERSION
    while version < schema.SCHEMA_VERSION:
        for statement in schema.migrate(tables, version):
            connection.execute(statement)
        version += 1
    connection.execute("COMMIT")


def _find_version(connection: sqlite3.Connection, tables: Tables, path: str) -> int | None:
    """The version of the tables as far as it matters here; None if there are none."""
    exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(exists, (tables.meta,)).fetchone() is None:
        return None
    query = f"SELECT name, value FROM {tables.meta}"
    known = dict(connection.execute(query).fetchall())
    version: int = known.get("schema", 0)
    oldest: int = known.get("oldest", 0)
    if version < schema.FIRST_VERSION:
        raise ConfigurationError(
            f"the tables in {path} were made by a version of flask_taskq from before its first"
            " release, which this one does not read; run what is in it with that version,"
            " then delete the file, or let the URL name a new one"
        )
    if oldest > schema.SCHEMA_VERSION:
        raise ConfigurationError(
            f"the tables in {path} have schema version {version}, and can be used from version"
            f" {oldest} on; this release of flask_taskq knows version"
            f" {schema.SCHEMA_VERSION}; install a newer one, or let the URL name a new file"
        )
    # A newer release has added what this one need not know.
    return min(version, schema.SCHEMA_VERSION)
