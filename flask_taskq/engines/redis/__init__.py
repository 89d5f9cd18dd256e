"""The Redis engine: jobs in Redis or Valkey, shared by any number of machines.

The modules, from the lowest to the highest: ``options`` (the URL), ``errors`` (translates
errors of redis-py), ``layout`` (a record as bytes), ``claims`` (the record of a claimed job),
``packing`` (a change as bytes), ``script_source`` (loads the Lua scripts in ``scripts/``),
``server_checks`` (what the server can do) and ``versions`` (which release its keys belong to),
``server`` (its address and its time), ``connection`` (one connection), ``lease_ages`` (how long
a worker has not renewed its lease), ``store`` (what the modules share), ``listing`` (pages and
counts), ``workers``, ``queues``, ``records`` and ``consumer`` (the parts of the engine
interface), and ``engine``.
"""

from __future__ import annotations

from .engine import RedisEngine

__all__ = ["RedisEngine"]
