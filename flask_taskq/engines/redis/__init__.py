"""Jobs in Redis or Valkey, for a fleet of machines.

The modules, from the bottom up: ``options`` (the URL), ``faults`` (the driver's errors in our
words), ``layout`` (a record as bytes), ``script`` (every transition, in Lua: ``scripts/``),
``server`` (where it is, what it must be able to do, which time it is there), ``link`` (one
connection), ``sightings`` (who has been still for how long), ``store`` (what the parts
share), ``workers``, ``records`` and ``consumer`` (the parts of the contract), and ``engine``,
their front.
"""

from __future__ import annotations

from .engine import RedisEngine

__all__ = ["RedisEngine"]
