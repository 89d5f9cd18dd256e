"""What a server's answers about itself lead to. The answers are made up."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions

from flask_taskq.engines.redis.options import Options
from flask_taskq.engines.redis.server_checks import check
from flask_taskq.engines.redis.server_checks import Info
from flask_taskq.engines.redis.server_checks import read_info
from flask_taskq.errors import ConfigurationError

GOOD = Info("7.0.15", policy="noeviction", appendonly=True, has_lpop_count=True)


class Answers:
    """A connection to a server that answers as it is told here."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers
        self._asked = ""

    def send_command(self, *words: str) -> None:
        self._asked = words[0]

    def read_response(self) -> Any:
        answer = self._answers.get(self._asked)
        if answer is None:
            raise exceptions.NoPermissionError("this user has no permissions to run it")
        return answer


def lpop(arity: int) -> list[Any]:
    return [b"lpop", arity, [b"write"], 1, 1, 1]


REDIS_62 = Answers(
    INFO=b"# Server\r\nredis_version:6.2.14\r\naof_enabled:0\r\n"
    b"maxmemory_policy:noeviction\r\n",
    CONFIG=[b"appendfsync", b"everysec"],
    COMMAND=[None, lpop(-2)],
)
VALKEY_8 = Answers(
    INFO=b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n"
    b"aof_enabled:1\r\nmaxmemory_policy:volatile-lru\r\n",
    CONFIG=[b"appendfsync", b"always"],
    COMMAND=[[b"waitaof", 4], lpop(-2)],
)
REDIS_5 = Answers(
    INFO=b"redis_version:5.0.7\r\n", CONFIG=[b"appendfsync", b"no"], COMMAND=[None, lpop(2)]
)
SECRETIVE = Answers(INFO=b"redis_version:7.4.0\r\n")


def test_a_server_is_read_as_it_describes_itself() -> None:
    """Version, product, policy, and what it can do."""
    assert read_info(REDIS_62) == Info(
        "6.2.14",
        policy="noeviction",
        appendonly=False,
        appendfsync="everysec",
        has_lpop_count=True,
    )
    assert read_info(VALKEY_8) == Info(
        "8.0.1",
        "valkey",
        "volatile-lru",
        True,
        "always",
        has_waitaof=True,
        has_lpop_count=True,
    )


def test_what_a_server_does_not_say_is_unknown_and_no_reason_to_refuse_it() -> None:
    """Services often forbid CONFIG and COMMAND."""
    info = read_info(SECRETIVE)

    assert info == Info("7.4.0")
    assert not check(info, "redis://cache", Options())


def test_a_server_that_is_too_old_is_refused() -> None:
    """With its version, and what is needed."""
    with pytest.raises(ConfigurationError, match=r"5\.0\.7; .* Redis 6\.2 or newer"):
        check(read_info(REDIS_5), "redis://cache", Options())
    with pytest.raises(ConfigurationError, match=r"6\.0\.9"):
        check(Info("6.0.9"), "redis://cache", Options())


def test_what_a_server_can_do_counts_more_than_its_number() -> None:
    """Forks have numbers of their own."""
    assert not check(GOOD._replace(version="1.3"), "redis://cache", Options())


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl"])
def test_a_server_that_evicts_is_refused(policy: str) -> None:
    """Unless an option says that this is known."""
    info = GOOD._replace(policy=policy)

    with pytest.raises(ConfigurationError, match=f"{policy}.*noeviction.*allow_eviction"):
        check(info, "redis://cache", Options())
    assert not check(info, "redis://cache", Options(allow_eviction=True))


def test_what_may_be_evicted_is_said() -> None:
    """Some policies take jobs, and others only results, which have a time to live."""
    with pytest.raises(ConfigurationError, match="throws away jobs"):
        check(GOOD._replace(policy="allkeys-lfu"), "redis://cache", Options())
    with pytest.raises(ConfigurationError, match="throws away results"):
        check(GOOD._replace(policy="volatile-lfu"), "redis://cache", Options())


FSYNC = Options(durability="fsync")


def test_a_server_with_waitaof_is_waited_for() -> None:
    """Unless it comes to the disk with each write anyway."""
    info = GOOD._replace(appendfsync="everysec", has_waitaof=True)

    assert check(info, "redis://cache", FSYNC)
    assert not check(info._replace(appendfsync="always"), "redis://cache", FSYNC)
    assert not check(info, "redis://cache", Options())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"appendonly": False}, "appendonly to yes"),
        ({"appendfsync": "everysec"}, "appendfsync is everysec; set that to always"),
        ({"appendfsync": ""}, "not to be read"),
    ],
)
def test_a_server_that_cannot_promise_the_disk_is_refused(
    changes: dict[str, Any], text: str
) -> None:
    """The text says what to set."""
    with pytest.raises(ConfigurationError, match=text):
        check(GOOD._replace(**changes), "redis://cache", FSYNC)
