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
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.engines import ENGINES

EngineMaker = Callable[..., Engine]


@pytest.fixture(params=ENGINES)
def new_engine(request: pytest.FixtureRequest, tmp_path: Path) -> EngineMaker:
    """Makes empty engines of the kind under test: ``new_engine(clock, **settings)``."""
    numbers = itertools.count(1)

    def make(clock: Clock, **settings: Any) -> Engine:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        url = ENGINES[request.param](folder)
        engine = make_engine(Settings(broker_url=url, **settings), clock)
        engine.connect()
        return engine

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
