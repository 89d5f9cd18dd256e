"""Every test of this folder runs once for each engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.engines.base import Engine
from flask_taskq.engines.split import SplitEngine
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.engines import ENGINES
from tests.support.engines import move_at_once

EngineMaker = Callable[..., Engine]

#: Two engines as one: a broker's, and one for results.
SPLIT = "sqlite+redis"


@pytest.fixture(params=[*ENGINES, SPLIT])
def new_engine(request: pytest.FixtureRequest, tmp_path: Path) -> EngineMaker:
    """Makes empty engines of the kind under test: ``new_engine(clock, **settings)``."""
    numbers = itertools.count(1)

    def make(clock: Clock, **settings: Any) -> Engine:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        broker, *results = [ENGINES[name](folder) for name in request.param.split("+")]
        keys: dict[str, Any] = {"broker_url": broker}
        if results:
            # SQLite alone is tested with a disk that is waited for.
            keys |= {"results_url": results[0], "broker_options": {"synchronous": "normal"}}
        engine = make_engine(Settings(**keys, **settings), clock)
        engine.connect()
        return move_at_once(engine) if isinstance(engine, SplitEngine) else engine

    return make


@pytest.fixture
def new_bench(new_engine: EngineMaker, clock: ManualClock) -> Iterator[Callable[..., Bench]]:
    """Makes benches whose time the test moves: ``new_bench(**settings)``."""
    benches = []

    def make(clock: Clock = clock, **settings: Any) -> Bench:
        benches.append(Bench(new_engine(clock, **settings)))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(new_bench: Callable[..., Bench]) -> Bench:
    """An empty engine whose time the test moves."""
    return new_bench()


@pytest.fixture
def live(new_bench: Callable[..., Bench]) -> Bench:
    """An empty engine on the machine's clock, for what waits."""
    return new_bench(Clock())
