"""What a server's errors mean, by the words of several versions."""

from __future__ import annotations

import pytest
from redis import exceptions

from flask_taskq.engines.redis.errors import is_transient
from flask_taskq.engines.redis.errors import moved_to
from flask_taskq.engines.redis.errors import Refused
from flask_taskq.engines.redis.errors import spares_connection
from flask_taskq.engines.redis.errors import translate
from flask_taskq.errors import BrokerError
from flask_taskq.errors import BrokerFull
from flask_taskq.errors import ConnectionClosed
from flask_taskq.errors import ConnectionFailed

#: As a script's error comes from servers before 7.0.
OLD_SCRIPT = "Error running script (call to f_1c): @user_script:31: @user_script: 31: -"

TRANSIENT = [
    exceptions.ReadOnlyError("You can't write against a read only replica."),
    exceptions.ResponseError(
        OLD_SCRIPT + "READONLY You can't write against a read only replica."
    ),
    exceptions.ResponseError(
        "UNBLOCKED force unblock from blocking operation, instance state changed"
    ),
    exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    exceptions.MasterDownError(
        "RedisConnection with MASTER is down and replica-serve-stale-data is no"
    ),
    exceptions.ClusterDownError("The cluster is down"),
    exceptions.MovedError("3999 127.0.0.1:6381"),
    exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
    exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: str(error)[:40])
def test_an_error_of_a_change_is_worth_another_try(error: Exception) -> None:
    """Over a new connection, and in the end the server is not ready."""
    assert is_transient(error)
    assert not spares_connection(error)
    assert isinstance(translate(error, "redis://cache"), ConnectionClosed)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        exceptions.ResponseError(
            OLD_SCRIPT + "OOM command not allowed when used memory > 'maxmemory'."
        ),
        exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left"),
    ],
)
def test_a_server_without_room_is_full(error: Exception) -> None:
    """To try again at once would not help, and the connection is good."""
    assert not is_transient(error)
    assert spares_connection(error)
    assert isinstance(translate(error, "redis://cache"), BrokerFull)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("invalid username-password pair or user is disabled."),
        exceptions.NoPermissionError("this user has no permissions to run 'evalsha'"),
        exceptions.ResponseError("NOAUTH Authentication required."),
        exceptions.ResponseError("WRONGPASS invalid username-password pair"),
    ],
)
def test_a_server_that_lets_nobody_in_is_not_asked_again(error: Exception) -> None:
    """Not in the same call."""
    assert not is_transient(error)
    assert isinstance(translate(error, "redis://cache"), Refused)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Error 111 connecting to cache:6379. Connection refused."),
        exceptions.TimeoutError("Timeout reading from cache:6379"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
def test_a_connection_that_broke_is_made_again(error: Exception) -> None:
    """And in the end the server is out of reach."""
    assert is_transient(error)
    assert not spares_connection(error)
    assert isinstance(translate(error, "redis://cache"), ConnectionClosed)
    assert isinstance(translate(error, "redis://cache", opening=True), ConnectionFailed)


def test_any_other_error_is_told_as_it_is() -> None:
    """With the server that said so."""
    error = translate(exceptions.ResponseError("ERR unknown command"), "redis://cache/3")

    assert type(error) is BrokerError
    assert str(error) == "redis://cache/3: ERR unknown command"


def test_a_node_that_has_moved_is_found_in_the_error() -> None:
    """In the words of the server, and as the driver shortens them."""
    assert moved_to(exceptions.MovedError("3999 10.0.0.1:6381")) == ("10.0.0.1", 6381)
    assert moved_to(exceptions.ResponseError("MOVED 3999 :6381")) == ("", 6381)
    assert moved_to(exceptions.ResponseError("ERR no such key")) is None


@pytest.mark.parametrize(
    ("error", "opening", "advice"),
    [
        (exceptions.ConnectionError("Connection refused."), True, "host and port in the URL"),
        (exceptions.TimeoutError("Timeout reading from socket"), False, "server is running"),
        (exceptions.BusyLoadingError("Redis is loading"), False, "try again soon"),
        (exceptions.OutOfMemoryError("command not allowed"), False, "more memory"),
        (exceptions.ResponseError("NOAUTH Authentication required."), False, "the password"),
    ],
)
def test_an_error_says_where_what_and_what_to_do(
    error: Exception, opening: bool, advice: str
) -> None:
    """A reader needs no knowledge of this package."""
    text = str(translate(error, "TASKQ_BROKER_URL: redis://cache", opening=opening))
    assert text.startswith("TASKQ_BROKER_URL: redis://cache")
    assert str(error).rstrip(".") in text
    assert advice in text
