"""The server's address and the options, from the URL and ``TASKQ_BROKER_OPTIONS``."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from typing import Any
from typing import Final
from typing import Literal
from typing import NamedTuple
from urllib.parse import parse_qsl
from urllib.parse import unquote
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ...config import redact_url
from ...config import Settings
from ...errors import ConfigurationError

PORT: Final = 6379
SENTINEL_PORT: Final = 26379


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the URL's query or ``TASKQ_BROKER_OPTIONS`` may set for this engine.

    :param timeout: how long a call may take, including repeated attempts, in milliseconds.
    :param max_connections: the number of shared connections of a process. A worker has three
        more.
    :param durability: with ``server``, jobs are as durable as the server's configuration makes
        them. With ``fsync``, a job is on the server's disk when ``send()`` returns.
    :param allow_eviction: start even if the server may evict jobs when its memory is full.
    :param ssl_check_hostname: whether the server's certificate must be valid for its host name.
    """

    timeout: Annotated[int, Meta(ge=100, le=600_000)] = 5_000
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 10
    durability: Literal["server", "fsync"] = "server"
    allow_eviction: bool = False
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_check_hostname: bool = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(timeout={self.timeout!r}, ...)"  # some are passwords


class Address(NamedTuple):
    """The address of a server: a host and a port, or a path."""

    host: str
    port: int = PORT
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether the connection stays on this machine."""
        try:
            return bool(self.path) or ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"  # only the network can resolve other names


class Location(NamedTuple):
    """The location of the server.

    :param addresses: the address of the server, or those of its Sentinels.
    :param service: the name of the service in the Sentinels, or None.
    :param shown: the URL without its password.
    :param key: the configuration key of the URL.
    """

    addresses: tuple[Address, ...]
    service: str | None
    db: int
    tls: bool
    username: str | None
    password: str | None
    shown: str
    key: str
    options: Options

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r})"

    @property
    def where(self) -> str:
        """The name of the server in errors."""
        return f"{self.key}: {self.shown}"

    @classmethod
    def from_settings(cls, settings: Settings) -> Location:
        """Read the URL and the options. The options take precedence over the query of the URL.

        :raises ConfigurationError: the URL or an option is not valid.
        """
        shown = redact_url(settings.broker_url).partition("?")[0]
        where = f"{settings.url_key}: {shown!r}"
        scheme, _, rest = settings.broker_url.partition("://")
        rest, _, query = rest.partition("?")
        credentials, at, rest = rest.rpartition("@")
        username, _, password = credentials.partition(":")
        given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
        if at:
            given.setdefault("username", unquote(username) or None)
            given.setdefault("password", unquote(password) or None)
        given.update(settings.broker_options)
        db = given.pop("db", None)
        service = None
        if scheme == "unix":
            addresses: tuple[Address, ...] = (Address("", path=unquote(rest)),)
            if not rest.startswith("/"):
                raise _wrong(where, "a path takes three slashes: unix:///run/redis/redis.sock")
        else:
            hosts, _, path = rest.partition("/")
            parts = [part for part in path.split("/") if part]
            if scheme == "redis+sentinel":
                if not parts:
                    raise _wrong(
                        where, "it needs the service's name: redis+sentinel://host:26379/name/0"
                    )
                service = parts.pop(0)
            if len(parts) > 1:
                raise _wrong(where, "its path is the number of a database")
            db = parts[0] if parts and db is None else db
            port = PORT if service is None else SENTINEL_PORT
            addresses = tuple(_read_address(where, host, port) for host in hosts.split(","))
            if service is None and len(addresses) > 1:
                raise _wrong(where, "several hosts are for redis+sentinel://")
        options = _read_options(settings.option_keys, given)
        return cls(
            addresses=addresses,
            service=service,
            db=_read_db(where, db),
            tls=scheme == "rediss",
            username=options.username,
            password=options.password,
            shown=shown,
            key=settings.url_key,
            options=options,
        )


def _read_address(where: str, text: str, port: int) -> Address:
    try:
        split = urlsplit(f"//{text}")
        return Address(split.hostname or "localhost", split.port or port)
    except ValueError:
        # The error of urlsplit() is not shown, because it quotes a part of the URL. In a
        # malformed URL this part may be from the password.
        raise _wrong(where, "its host or its port cannot be read") from None


def _read_db(where: str, db: Any) -> int:
    try:
        number = int(0 if db is None else db)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise _wrong(where, "a database is a number from 0")
    return number


def _read_options(where: str, given: dict[str, Any]) -> Options:
    for name, value in given.items():
        if name not in Options.__struct_fields__:
            raise ConfigurationError(
                f"{where}: the redis engine has no option {_show(name, value)}, only "
                + ", ".join(("db", *Options.__struct_fields__))
            )
    try:
        options = msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        path = getattr(options, name)
        # The driver would report a missing file as a server that cannot be reached.
        if path is not None and not Path(path).is_file():
            raise ConfigurationError(f"{where}: {name} is {path!r}, and there is no such file")
    return options


def _show(name: str, value: Any) -> str:
    # An option without a value may be the end of a password that contains "&".
    return "*** (without a value)" if value == "" else repr(name)


def _wrong(where: str, text: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: {text}")
