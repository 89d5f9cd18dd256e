"""Jobs in Redis or Valkey, for a fleet of machines.

The modules, from the bottom up: ``options`` (the URL), ``faults`` (the driver's errors in our
words), ``layout`` (a record as bytes), ``packing`` (a change as bytes), ``script`` (every step,
in Lua: ``scripts/``), ``probing`` and ``versions`` (what a server must be able to do, and whose
keys it may have), ``server`` (where it is, and which time it is there), ``link`` (one
connection), ``sightings`` (who has been still for how long), ``store`` (what the parts
share), ``lists`` (pages and counts), ``workers``, ``queues``, ``records`` and ``consumer`` (the
parts of the contract), and ``engine``, their front.
"""

from __future__ import annotations

from .engine import RedisEngine

__all__ = ["RedisEngine"]
