"""Checks that a server has the required features, and that its configuration does not lose
jobs.

The checks use the server's own report, and its supported commands where it lists them. Version
numbers alone are not sufficient, because forks and hosted services have their own.
"""

from __future__ import annotations

import socket
from typing import Any
from typing import Final
from typing import NamedTuple
from typing import Protocol

from redis import exceptions

from ...errors import ConfigurationError
from ...loggers import get_logger
from .options import Address
from .options import Location
from .options import Options

logger = get_logger(__name__)

#: The first version of Redis with all commands that the scripts use.
OLDEST: Final = (6, 2)


class Connection(Protocol):
    """The part of the driver's connection classes that this package uses."""

    _sock: socket.socket

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def send_command(self, *words: str) -> None: ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...

    def read_response(self, disable_decoding: bool = False) -> Any: ...


class Info(NamedTuple):
    """The report of a server about itself. Missing values are empty or None.

    :param has_waitaof: whether the server has the command WAITAOF.
    :param has_lpop_count: whether LPOP accepts a count, which the scripts need.
    """

    version: str
    product: str = "redis"
    policy: str = ""
    appendonly: bool | None = None
    appendfsync: str = ""
    has_waitaof: bool = False
    has_lpop_count: bool | None = None


def read_info(connection: Connection) -> Info:
    """Read the report of a server about itself."""
    text = _ask(connection, "INFO") or b""
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    said = {name: value for name, _, value in lines}
    fsync = _ask(connection, "CONFIG", "GET", "appendfsync")
    commands = _ask(connection, "COMMAND", "INFO", "waitaof", "lpop") or [None, None]
    lpop = commands[1]
    return Info(
        version=said.get("valkey_version") or said.get("redis_version", ""),
        product=said.get("server_name") or "redis",
        policy=said.get("maxmemory_policy", ""),
        appendonly=None if "aof_enabled" not in said else said["aof_enabled"] == "1",
        appendfsync=fsync[1].decode() if fsync else "",
        has_waitaof=bool(commands[0]),
        # A negative arity means a minimum number of words, so that more are possible.
        has_lpop_count=None if lpop is None else int(lpop[1]) < 0,
    )


def check(info: Info, where: str, options: Options) -> bool:
    """Reject a server that cannot be used.

    :param where: the configuration key of the server's URL, and the URL without its password.
    :return: whether WAITAOF must follow when jobs are sent.
    :raises ConfigurationError: the server cannot be used. The text describes what to change.
    """
    if info.has_lpop_count is False or (info.has_lpop_count is None and _is_old(info)):
        raise ConfigurationError(
            f"{where} is {info.product} {info.version}; the redis engine"
            f" needs Redis {'.'.join(map(str, OLDEST))} or newer, or Valkey"
        )
    _check_eviction(info, where, options)
    if options.durability == "fsync":
        return _check_disk(info, where)
    return False


def warn_of_exposure(address: Address, location: Location) -> None:
    """Log a warning if others on the network can read jobs, or send jobs themselves."""
    if address.is_local:
        return
    where, has_password = location.shown, location.password is not None
    if not location.tls:
        what = "the password and all jobs go" if has_password else "all jobs go"
        logger.warning("%s: %s to %s unencrypted; use rediss://", where, what, address)
    if not has_password and not location.options.ssl_certfile:
        logger.warning(
            "%s: anybody who reaches %s can read and send jobs; set a password there, and"
            " in the URL",
            where,
            address,
        )


def _check_eviction(info: Info, where: str, options: Options) -> None:
    if info.policy in ("", "noeviction"):
        return
    lost = "jobs" if info.policy.startswith("allkeys") else "results"
    text = (
        f"{where} has maxmemory-policy {info.policy}: when its memory is full it throws away"
        f" {lost} without a word; set it to noeviction"
    )
    if not options.allow_eviction:
        raise ConfigurationError(
            f"{text}, or start in spite of that with the option allow_eviction=true"
        )
    logger.warning("%s", text)


def _check_disk(info: Info, where: str) -> bool:
    if info.appendonly is False:
        raise ConfigurationError(
            f"{where} keeps nothing on its disk, and the option durability is 'fsync'; set"
            " appendonly to yes there"
        )
    if info.appendfsync == "always":
        return False
    if info.has_waitaof:
        return True
    raise ConfigurationError(
        f"{where} is {info.product} {info.version}, which has no WAITAOF (Redis 7.2 brought"
        " it), the option durability is 'fsync', and there appendfsync is"
        f" {info.appendfsync or 'not to be read'}; set that to always"
    )


def _is_old(info: Info) -> bool:
    numbers = tuple(int(part) for part in info.version.split(".")[:2] if part.isdigit())
    return len(numbers) == 2 and numbers < OLDEST


def _ask(connection: Connection, *words: str) -> Any:
    """Return the reply, or None if the server does not allow the command for this user."""
    connection.send_command(*words)
    try:
        return connection.read_response()
    except exceptions.ResponseError:
        return None
