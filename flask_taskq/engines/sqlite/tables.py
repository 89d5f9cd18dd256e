"""The tables in the file: their names, and the check that this release can use them."""

from __future__ import annotations

import re
import sqlite3

from ...errors import ConfigurationError
from ..sql import schema
from ..sql.schema import Tables


def find_tables(namespace: str) -> Tables:
    """Return the names of the tables of a namespace.

    SQLite ignores case in table names, and reserves names that begin with ``sqlite_``. Both
    cases are encoded with a ``$``. Names of namespaces have no ``$``, so two namespaces never
    get the same table names.
    """
    prefix = re.sub("[A-Z]", lambda letter: letter[0].lower() + "$$", namespace)
    return Tables.of(re.sub("^sqlite(?=_|$)", "sqlite$$$", prefix))


def prepare_tables(connection: sqlite3.Connection, tables: Tables, path: str) -> None:
    """Create the tables, or migrate tables of an older release to the version of this one.

    :raises ConfigurationError: this release cannot use the tables.
    """
    if _find_version(connection, tables, path) == schema.SCHEMA_VERSION:
        return
    # Several processes may start at once. The first one to get the lock creates the tables.
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
    """Return the version of the tables, at most the version of this release. Return None if
    there are no tables."""
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
    # The additions of a newer release do not matter to this release.
    return min(version, schema.SCHEMA_VERSION)
