"""The SQLite engine: jobs in a file, shared by the processes of one machine. It needs no server
and no additional package.

The tables and the statements are those of ``engines/sql/``. The modules, from the lowest to the
highest: ``files`` (checks of the file and its folder), ``log_guard`` (prevents the removal of
the log), ``errors`` (translates errors of sqlite3), ``fork_safety`` (handlers for
``os.fork``), ``tables`` (their names and versions), ``database`` (connections), ``wakeup``
(wake-ups), ``transitions`` (changes of one job's rows), ``group_commit`` (threads that send
share a transaction), ``store`` (what the modules share), ``workers``, ``queues``, ``records``
and ``consumer`` (the parts of the engine interface), and ``engine``.
"""

from __future__ import annotations

from .engine import SQLiteEngine

__all__ = ["SQLiteEngine"]
