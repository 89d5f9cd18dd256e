"""Which engine an app gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.engines.memory import MemoryEngine
from flask_taskq.errors import ConfigurationError
from tests.support.redis_server import empty_redis


@pytest.mark.parametrize(
    "url",
    [
        "redsi://user:hunter2@host",
        "redis://user:hunter2@host:port",
        "redis://user:hunter2@host/0?nonsense=1",
        "sqlite:///relative",
        "sqlite:////tmp/a?nonsense=1",
    ],
)
def test_a_wrong_url_is_an_error_that_names_its_key(url: str) -> None:
    """Without its password."""
    with pytest.raises(ConfigurationError, match=r"^TASKQ_BROKER_URL\b") as caught:
        make_engine(Settings(broker_url=url), Clock())
    assert "hunter2" not in str(caught.value)


def test_a_server_that_refuses_is_an_error_that_names_its_key() -> None:
    """Likewise, when it is asked."""
    base = empty_redis().partition("//")[2]
    with make_engine(Settings(broker_url=f"redis://nobody:hunter2@{base}"), Clock()) as engine:
        with pytest.raises(ConfigurationError, match=r"^TASKQ_BROKER_URL\b") as caught:
            engine.connect()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("broker", ["redis://127.0.0.1/0", "sqlite:////tmp/jobs.sqlite3"])
def test_a_place_for_results_is_refused_where_records_stay_with_their_jobs(broker: str) -> None:
    """The text says why, what to do, and no password."""
    settings = Settings(broker_url=broker, results_url="redis://:hunter2@host")
    with pytest.raises(
        ConfigurationError, match="^TASKQ_RESULTS_URL is .* Leave the key"
    ) as it:
        make_engine(settings, Clock())
    assert "one atomic step" in str(it.value)
    assert "hunter2" not in str(it.value)


def test_jobs_in_memory_keep_their_results_there(tmp_path: Path) -> None:
    """A test of an app needs no server, whatever its configuration says of results."""
    settings = Settings(broker_url="memory://", results_url="redis://user:pass@nowhere:x")
    assert isinstance(make_engine(settings, Clock()), MemoryEngine)
