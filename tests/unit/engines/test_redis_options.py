"""What a URL says about where a Redis server is."""

from __future__ import annotations

from typing import Any

import pytest

from flask_taskq.config import Settings
from flask_taskq.engines.redis.options import Address
from flask_taskq.engines.redis.options import Location
from flask_taskq.errors import ConfigurationError


def locate(url: str, **options: Any) -> Location:
    return Location.from_settings(Settings(broker_url=url, broker_options=options))


@pytest.mark.parametrize(
    ("url", "address", "db"),
    [
        ("redis://", Address("localhost", 6379), 0),
        ("redis://cache", Address("cache", 6379), 0),
        ("redis://cache:7000/3", Address("cache", 7000), 3),
        ("redis://cache?db=4", Address("cache", 6379), 4),
        ("redis://[::1]:7000/3", Address("::1", 7000), 3),
        ("unix:///run/redis.sock", Address("", path="/run/redis.sock"), 0),
        ("unix:///run/redis.sock?db=2", Address("", path="/run/redis.sock"), 2),
    ],
)
def test_a_url_names_a_server_and_a_database(url: str, address: Address, db: int) -> None:
    """With defaults for what it leaves out."""
    location = locate(url)

    assert (location.addresses, location.db) == ((address,), db)
    assert (location.service, location.tls) == (None, False)


def test_a_url_names_sentinels_and_a_service() -> None:
    """Any number of Sentinels, of which one is enough."""
    location = locate("redis+sentinel://u:p@a:1,b/jobs/5?sentinel_password=s")

    assert location.addresses == (Address("a", 1), Address("b", 26379))
    assert (location.service, location.db) == ("jobs", 5)
    assert (location.username, location.password) == ("u", "p")
    assert location.options.sentinel_password == "s"


def test_a_url_may_ask_for_tls() -> None:
    """By its scheme."""
    assert locate("rediss://cache").tls


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("redis://:secret@cache", None, "secret"),
        ("redis://shop:secret@cache", "shop", "secret"),
        ("redis://shop:p%40ss%2F@cache", "shop", "p@ss/"),
        ("redis://cache?username=shop&password=secret", "shop", "secret"),
        ("redis://cache", None, None),
    ],
)
def test_a_url_may_have_a_user_and_a_password(url, username, password) -> None:
    """Percent-encoded where they have characters that a URL gives a meaning."""
    location = locate(url)

    assert (location.username, location.password) == (username, password)


@pytest.mark.parametrize(
    "url",
    [
        "redis://shop:secret@cache:7000/3",
        "redis+sentinel://shop:secret@a:1,b:2/jobs",
        "redis://cache?password=secret",
        "unix://shop:secret@/run/redis.sock",
    ],
)
def test_what_is_shown_has_no_password(url: str) -> None:
    """It goes into logs and errors."""
    assert "secret" not in locate(url).shown


def test_options_win_over_the_url() -> None:
    """Where both say something."""
    location = locate("redis://cache/1?timeout=700&max_connections=2", timeout=900, db=6)

    assert (location.options.timeout, location.options.max_connections) == (900, 2)
    assert location.db == 6


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://cache/x", "a database is a number"),
        ("redis://cache/-1", "a database is a number"),
        ("redis://cache/1/2", "the number of a database"),
        ("redis://cache:port", "(?i:port)"),
        ("redis://a,b/0", "several hosts are for redis\\+sentinel"),
        ("redis+sentinel://a:1", "needs the service's name"),
        ("unix://run/redis.sock", "three slashes"),
        ("redis://cache?timeouts=3", "no option 'timeouts', only db, timeout"),
        ("redis://cache?timeout=soon", "timeout"),
        ("redis://cache?timeout=0", "timeout"),
        ("redis://cache?durability=some", "durability"),
    ],
)
def test_a_url_that_cannot_be_meant_says_why(url: str, text: str) -> None:
    """The error names the key."""
    with pytest.raises(ConfigurationError, match=text) as raised:
        locate(url)

    assert str(raised.value).startswith("TASKQ_BROKER_URL")


def test_an_error_of_the_url_has_no_password() -> None:
    """As little as anything else."""
    with pytest.raises(ConfigurationError) as raised:
        locate("redis://shop:secret@cache/x")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hun?ter2@cache",
        "redis://:hunter2",
        "redis://cache/0?password=a&hunter2",
        "redis://:hunter2@cache/0/1",
        "redis://:hunter2@cache/x?password=hunter2",
        "redis+sentinel://:hunter2@cache?password=hunter2",
    ],
)
def test_no_text_repeats_a_part_of_a_password(url: str) -> None:
    """Nor of a URL that is written so badly that the password is taken for something else."""
    with pytest.raises(ConfigurationError) as caught:
        locate(url)

    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_a_location_can_be_shown() -> None:
    """In the variables of a traceback, without its password."""
    location = locate("redis://:hunter2@cache/0?sentinel_password=hunter2")

    for shown in (repr(location), repr(location.options)):
        assert "hunter2" not in shown
    assert "redis://:***@cache" in repr(location)
