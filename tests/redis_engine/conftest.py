"""Servers of one test each, which it may harm."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from tests.support.bench import Bench
from tests.support.machine_time import start_pulse
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session", autouse=True)
def pulse() -> None:
    """Promises of time are judged by what the machine has time for."""
    start_pulse()


@pytest.fixture
def start_server() -> Iterator[Callable[..., RedisServer]]:
    """Starts servers with options, and ends them with the test."""
    servers: list[RedisServer] = []

    def start(port: int | None = None, **options: str) -> RedisServer:
        servers.append(RedisServer(port, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(start_server: Callable[..., RedisServer]) -> RedisServer:
    """A server without persistence."""
    return start_server()


@pytest.fixture
def new_bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches on a URL: ``new_bench(url, timeout=..., **settings)``."""
    benches: list[Bench] = []

    def make(
        url: str,
        *,
        clock: Clock | None = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Bench:
        checked = Settings(broker_url=url, broker_options=options or {}, **settings)
        benches.append(Bench(make_engine(checked, clock or Clock())))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(server: RedisServer, new_bench: Callable[..., Bench]) -> Bench:
    """An engine on the test's server."""
    return new_bench(server.url)
