"""Jobs in an SQLite file: nothing to install, nothing to run, shared by one machine.

The rooms, from the bottom up: ``files`` (where the file may be, and whether it is still
there), ``guard`` (keeps its log from being removed), ``faults`` (sqlite3's errors in our
words), ``forks`` (what to do around ``os.fork``), ``statements`` (the schema and every
statement), ``database`` (connections), ``doorbell`` (wake-ups), ``sender`` (group commit),
``store`` (what the parts share), ``workers``, ``records``, ``reports`` and ``consumer`` (the
parts of the contract), and ``engine``, their front.
"""

from __future__ import annotations

from .engine import SQLiteEngine

__all__ = ["SQLiteEngine"]
