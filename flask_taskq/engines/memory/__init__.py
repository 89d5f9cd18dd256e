"""The contract in plain Python: the engine for tests, and the reference for readers.

The rooms, from the bottom up: ``store`` (what the parts share), ``workers``, ``records`` and
``consumer`` (the parts of the contract), and ``engine``, their front.
"""

from __future__ import annotations

from .engine import MemoryEngine

__all__ = ["MemoryEngine"]
