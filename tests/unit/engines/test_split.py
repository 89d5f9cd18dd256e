"""An engine made of two, and how records come from one to the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.engines.base import Engine
from flask_taskq.engines.base import HOUSEKEEPING_LIMIT
from flask_taskq.engines.memory import MemoryEngine
from flask_taskq.engines.split import SplitEngine
from flask_taskq.errors import BrokerFull
from flask_taskq.errors import ConfigurationError
from flask_taskq.errors import ConnectionFailed
from flask_taskq.record import JobRecord
from flask_taskq.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import retry
from tests.support.redis_server import empty_redis


@pytest.fixture
def engine(clock: ManualClock) -> SplitEngine:
    settings = Settings(broker_url="memory://")
    return SplitEngine(MemoryEngine(settings, clock), MemoryEngine(settings, clock))


@pytest.fixture
def bench(engine: SplitEngine) -> Bench:
    return Bench(engine)


def finish(bench: Bench) -> JobRecord:
    """The record of a new job that has ended."""
    delivery = bench.running()
    bench.settle(done(delivery))
    return bench.record(delivery.id)


def where(engine: SplitEngine, job_id: str) -> list[str]:
    """In which of the two the record is."""
    parts = {"broker": engine.broker, "results": engine.results}
    return [name for name, part in parts.items() if part.jobs.get(job_id) is not None]


def fail(*args: Any) -> Any:
    raise ConnectionFailed("it is away")


# Moving


def test_a_record_moves_when_its_job_has_ended(engine: SplitEngine, bench: Bench) -> None:
    """Not before, and it is the same there."""
    delivery = bench.running()
    engine.move()
    assert where(engine, delivery.id) == ["broker"]
    bench.settle(retry(delivery, bench.clock.now()))
    engine.move()
    assert where(engine, delivery.id) == ["broker"]
    bench.settle(done(bench.claim()))
    record = bench.record(delivery.id)
    engine.move()

    assert where(engine, delivery.id) == ["results"]
    assert bench.record(delivery.id) == record


def test_one_move_is_bounded_and_says_so(engine: SplitEngine, bench: Bench) -> None:
    """The rest moves with the next one."""
    bench.send_many(HOUSEKEEPING_LIMIT + 1)
    bench.settle(*map(done, bench.worker().fetch(HOUSEKEEPING_LIMIT + 1, 0)))

    assert engine.move()
    assert len(engine.broker.jobs.list_final()) == 1
    assert not engine.move()
    assert engine.broker.jobs.list_final() == []


@pytest.mark.parametrize(
    ("part", "step", "left"),
    [
        ("results", "adopt", ["broker"]),
        ("broker", "give_away", ["broker", "results"]),
    ],
)
def test_a_move_that_breaks_off_is_made_again(
    engine: SplitEngine,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    step: str,
    left: list[str],
) -> None:
    """The record can be read at all times, and is in its place in the end."""
    record = finish(bench)
    with monkeypatch.context() as patch:
        patch.setattr(getattr(engine, part).jobs, step, fail)
        with pytest.raises(ConnectionFailed):
            engine.move()
        assert where(engine, record.id) == left
        assert bench.record(record.id) == record
    engine.move()

    assert where(engine, record.id) == ["results"]
    assert bench.record(record.id) == record


def test_a_record_that_expires_on_its_way_is_kept_nowhere(
    engine: SplitEngine, bench: Bench
) -> None:
    """The results store was away for longer than it was to be kept."""
    record = finish(bench)
    bench.clock.advance(engine.settings.result_ttl)
    engine.move()

    assert where(engine, record.id) == []
    assert engine.results.jobs.prune() == 0


# Reading


def test_a_job_that_lives_needs_no_results_store(
    engine: SplitEngine, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent, run, read and cancelled while that is away."""
    for name in ("get", "wait", "cancel", "prune", "adopt"):
        monkeypatch.setattr(engine.results.jobs, name, fail)
    monkeypatch.setattr(engine.results, "connect", fail)
    engine.connect()
    record, waiting = finish(bench), bench.send()

    assert bench.record(record.id).status is Status.SUCCEEDED
    assert engine.jobs.wait(record.id, None) == record
    cancelled = engine.jobs.cancel(waiting)
    assert cancelled is not None and cancelled.status is Status.CANCELLED


def test_what_cannot_be_looked_up_is_not_unknown(
    engine: SplitEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record may be where nobody can look now."""
    for name in ("get", "wait", "cancel"):
        monkeypatch.setattr(engine.results.jobs, name, fail)
    for ask in (engine.jobs.get, engine.jobs.cancel, lambda id_: engine.jobs.wait(id_, 0)):
        with pytest.raises(ConnectionFailed):
            ask("0" * 32)


def test_a_wait_goes_on_when_the_record_moves(engine: SplitEngine, bench: Bench) -> None:
    """It may never have seen it final in the broker."""
    delivery = bench.running()

    def end_and_move(condition: object, timeout: object) -> bool:
        # While it waits. What it sees next is that the broker has no such record.
        bench.settle(done(delivery))
        engine.move()
        return True

    engine.clock.wait = end_and_move  # type: ignore[method-assign]
    record = engine.jobs.wait(delivery.id, None)

    assert record is not None and record.status is Status.SUCCEEDED
    assert where(engine, delivery.id) == ["results"]


# Connecting


@pytest.mark.parametrize("error", [ConnectionFailed, BrokerFull])
def test_a_results_store_that_is_away_is_no_reason_not_to_start(
    engine: SplitEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    """The log says where the records are meanwhile."""

    def refuse() -> None:
        raise error("redis://host: it is away")

    monkeypatch.setattr(engine.results, "connect", refuse)
    with caplog.at_level(logging.WARNING):
        engine.connect()

    assert "stay in the broker" in caplog.text
    assert "TASKQ_RESULTS_URL" in caplog.text
    assert "it is away" in caplog.text


def test_a_broker_that_is_away_is_a_reason_not_to_start(
    engine: SplitEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to work on."""
    monkeypatch.setattr(engine.broker, "connect", fail)
    with pytest.raises(ConnectionFailed):
        engine.connect()


def test_a_results_store_that_will_not_do_is_refused(tmp_path: Path) -> None:
    """Nobody would mend a configuration that seems to work."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with make(tmp_path, f"sqlite:///{tmp_path}/open/b") as engine:
        with pytest.raises(ConfigurationError, match="open may be written by every user"):
            engine.connect()


# Making one


def make(folder: Path, results_url: str | None, **settings: Any) -> Engine:
    url = f"sqlite:///{folder}/jobs.sqlite3"
    checked = Settings(**{"broker_url": url, "results_url": results_url, **settings})
    return make_engine(checked, Clock())


def test_without_a_place_of_their_own_records_stay_in_the_broker(tmp_path: Path) -> None:
    """There are not two engines where one will do."""
    for url in (None, f"sqlite:///{tmp_path}/jobs.sqlite3"):
        assert not isinstance(make(tmp_path, url), SplitEngine)
    assert isinstance(make(tmp_path, f"sqlite:///{tmp_path}/other.sqlite3"), SplitEngine)


def test_options_of_the_broker_are_not_those_of_the_results_store(tmp_path: Path) -> None:
    """It has its own in the URL's query."""
    url = "redis://127.0.0.1/0?timeout=700"
    engine = make(tmp_path, url, broker_options={"busy_timeout": 100})
    assert isinstance(engine, SplitEngine)
    assert engine.results.settings.broker_options == {}


@pytest.mark.parametrize(
    "url",
    [
        "redsi://user:hunter2@host",
        "redis://user:hunter2@host:port",
        "redis://user:hunter2@host/0?nonsense=1",
        "sqlite:///relative",
        "sqlite:////tmp/a?nonsense=1",
        "memory://",
    ],
)
def test_a_wrong_url_is_an_error_that_names_its_key(tmp_path: Path, url: str) -> None:
    """Without its password, and without a word of the broker's."""
    with pytest.raises(ConfigurationError, match=r"^TASKQ_RESULTS_URL\b") as caught:
        make(tmp_path, url)
    assert "hunter2" not in str(caught.value)
    assert "TASKQ_BROKER" not in str(caught.value)


def test_a_server_that_refuses_is_an_error_that_names_its_key(tmp_path: Path) -> None:
    """Likewise, when it is asked."""
    base = empty_redis().partition("//")[2]
    with make(tmp_path, f"redis://nobody:hunter2@{base}") as engine:
        with pytest.raises(ConfigurationError, match=r"^TASKQ_RESULTS_URL\b") as caught:
            engine.connect()
    assert "hunter2" not in str(caught.value)
    assert "TASKQ_BROKER" not in str(caught.value)


def test_jobs_in_memory_keep_their_results_there() -> None:
    """A test of an app needs no server, whatever its configuration says of results."""
    settings = Settings(broker_url="memory://", results_url="redis://user:pass@nowhere:x")
    assert isinstance(make_engine(settings, Clock()), MemoryEngine)


def spell_file(folder: Path) -> tuple[str, str]:
    (folder / "link").symlink_to(folder)
    return f"sqlite:///{folder}/jobs.sqlite3", f"sqlite:///{folder}/link/jobs.sqlite3"


def spell_server(folder: Path) -> tuple[str, str]:
    url = empty_redis()
    return url, f"{url}?timeout=6000"


@pytest.fixture(params=[spell_file, spell_server])
def twice(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """One place that was given as two, in other words."""
    broker_url, results_url = request.param(tmp_path)
    with make(tmp_path, results_url, broker_url=broker_url) as engine:
        engine.connect()
        yield Bench(engine)


def test_one_place_in_two_spellings_loses_nothing(twice: Bench) -> None:
    """What is removed in the one is not what was stored in the other."""
    record, waiting = finish(twice), twice.send()
    assert isinstance(twice.engine, SplitEngine)
    twice.engine.move()

    assert where(twice.engine, record.id) == ["results"]
    assert twice.record(record.id) == record
    assert twice.engine.queues.depths() == {"default": 1}
    assert twice.claim_all() == [waiting]


# Damage


def test_a_record_that_the_other_engine_cannot_store_stays(
    clock: ManualClock, tmp_path: Path
) -> None:
    """The others move, and it can still be read where it is."""
    broker = MemoryEngine(Settings(broker_url="memory://"), clock)
    results = make_engine(Settings(broker_url=empty_redis()), clock)
    engine = SplitEngine(broker, results)
    bench = Bench(engine)
    ids = [finish(bench).id for _ in range(3)]
    # More than the other one has room for.
    broker.store.table[ids[1]].update(crashes=10**6)

    assert engine.move() is False

    assert [where(engine, job_id) for job_id in ids] == [["results"], ["broker"], ["results"]]
    assert engine.jobs.get(ids[1]) is not None
    engine.close()


@pytest.mark.parametrize("ahead", [-3_600_000, 3_600_000])
def test_a_record_that_moves_is_kept_as_long_as_it_had_left(
    clock: ManualClock, ahead: int
) -> None:
    """The other engine may have another time."""
    elsewhere = ManualClock(clock.now() + ahead)
    settings = Settings(broker_url="memory://", result_ttl=60_000)
    engine = SplitEngine(MemoryEngine(settings, clock), MemoryEngine(settings, elsewhere))
    bench = Bench(engine)
    job_id = finish(bench).id
    for one in (clock, elsewhere):
        one.advance(20_000)

    engine.move()

    for one in (clock, elsewhere):
        one.advance(39_999)
    assert where(engine, job_id) == ["results"]
    for one in (clock, elsewhere):
        one.advance(1)
    assert where(engine, job_id) == []
