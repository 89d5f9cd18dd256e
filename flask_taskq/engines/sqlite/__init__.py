"""Jobs in an SQLite file: nothing to install, nothing to run, shared by one machine.

The tables and the statements are those of ``engines/sql/``. The modules, from the bottom up:
``files`` (where the file may be, and whether it is still there), ``guard`` (keeps its log from
being removed), ``errors`` (translates errors of sqlite3), ``forks`` (what to do around
``os.fork``), ``tables`` (their names and versions), ``database`` (connections), ``wakeup``
(wake-ups), ``changing`` (changes of one job's rows), ``sender`` (group commit), ``store`` (what
the modules share), ``workers``, ``queues``, ``records`` and ``consumer`` (the parts of the
contract), and ``engine``.
"""

from __future__ import annotations

from .engine import SQLiteEngine

__all__ = ["SQLiteEngine"]
