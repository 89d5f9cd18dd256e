"""The server: its address, the checks of its features, and its time."""

from __future__ import annotations

import inspect
import threading
from typing import Any
from typing import Final

from redis import connection as driver
from redis import exceptions

from ...clock import Clock
from ...loggers import get_logger
from .errors import moved_to
from .options import Address
from .options import Location
from .server_checks import check
from .server_checks import Connection
from .server_checks import read_info
from .server_checks import warn_of_exposure
from .versions import check_layout

logger = get_logger(__name__)

#: How long a measurement of the server's time is used before the next one, in milliseconds.
_MEASURED_FOR: Final = 10_000

#: How long a measurement with a shorter round trip is preferred to later ones, in milliseconds.
_PREFERRED_FOR: Final = 300_000

#: The difference between two measurements that is possible without setting a clock. It has a
#: fixed part for the rounding of times, in milliseconds, and a part for clock drift, per
#: millisecond.
_GRAIN: Final = 5
_DRIFT: Final = 0.001

#: Options that stop the driver from sending its name and version on every new connection, which
#: takes two round trips. Their names depend on the driver's version.
_SILENT: Final[dict[str, Any]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(driver.AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


class Server:
    """Opens connections to the server that accepts writes, at its present address.

    :param location: the address of the server, or the addresses of its Sentinels.
    :param prefix: the beginning of every key.
    """

    def __init__(self, location: Location, clock: Clock, prefix: str) -> None:
        self.location = location
        self._prefix = prefix
        self.options = location.options
        #: Whether WAITAOF must follow when jobs are sent. This is known after the first
        #: connection.
        self.waits_for_disk = False
        self._clock = clock
        self._lock = threading.Lock()
        self._warned = self._checked = False
        self._moved: Address | None = None
        # The server's time is the monotonic clock plus this offset. The other fields are the
        # times of the last and of the best measurement, and the round trip of the best one.
        self._offset: float | None = None
        self._measured_at = self._exact_since = float("-inf")
        self._round_trip = 0.0

    def open(self, timeout: float) -> Connection:
        """Return a new, authenticated connection.

        :param timeout: the limit for each step, in seconds.
        :raises redis.exceptions.RedisError: no connection can be opened.
        :raises ConfigurationError: the server cannot be used.
        """
        address = self._find(timeout)
        if not self._warned:
            self._warned = True
            warn_of_exposure(address, self.location)
        connection = self._connect(address, timeout)
        try:
            if self.location.service is not None:
                self._check_role(connection)
            if not self._checked:
                where = self.location.where
                self.waits_for_disk = check(read_info(connection), where, self.options)
                check_layout(connection, self._prefix, where)
                self._checked = True
            if self._offset is None:
                self.measure(connection)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def follow(self, error: BaseException) -> None:
        """Use the information in an error about the server's address."""
        moved = moved_to(error)
        if moved is not None:
            host, port = moved
            self._moved = Address(host or self.location.addresses[0].host, port)
        elif self._moved is not None and not isinstance(error, exceptions.ResponseError):
            self._moved = None  # that node is gone, so the configured address is used again

    def after_fork_in_child(self) -> None:
        """Create a new lock. A thread that does not exist in the child may have held the old
        one."""
        self._lock = threading.Lock()

    # --- Time ---

    @property
    def is_time_old(self) -> bool:
        """Whether the server's time should be measured again."""
        return self._clock.monotonic() - self._measured_at > _MEASURED_FOR

    def measure(self, connection: Connection) -> None:
        """Measure the server's time."""
        before = self._clock.monotonic()
        connection.send_command("TIME")
        seconds, microseconds = connection.read_response()
        after = self._clock.monotonic()
        time = self._clock.server_time(int(seconds) * 1000 + int(microseconds) // 1000)
        round_trip = after - before
        offset = time - (before + after) / 2
        with self._lock:
            is_worse = round_trip > 2 * self._round_trip + 5
            if (
                self._offset is None
                or not is_worse
                or after - self._exact_since > _PREFERRED_FOR
                or self._was_set(offset, round_trip, after)
            ):
                self._offset = offset
                self._round_trip = round_trip
                self._exact_since = after
            self._measured_at = after

    def _was_set(self, offset: float, round_trip: float, after: float) -> bool:
        """Return whether the server's clock was set since the last measurement. If so, two
        measurements differ by more than their uncertainty and the clock drift."""
        assert self._offset is not None
        unknown = (round_trip + self._round_trip) / 2 + _GRAIN
        unknown += (after - self._exact_since) * _DRIFT
        return abs(offset - self._offset) > unknown

    def now(self) -> int:
        """Return the server's time, in milliseconds since the epoch.

        Before the first measurement, this is the time of this machine.
        """
        if self._offset is None:
            return self._clock.now()
        return int(self._clock.monotonic() + self._offset)

    # --- Finding the server ---

    def _find(self, timeout: float) -> Address:
        if self._moved is not None:
            return self._moved
        if self.location.service is None:
            return self.location.addresses[0]
        return self._ask_sentinels(self.location.service, timeout)

    def _ask_sentinels(self, service: str, timeout: float) -> Address:
        trouble: list[str] = []
        for address in self.location.addresses:
            sentinel = None
            try:
                sentinel = self._make(address, timeout, sentinel=True)
                sentinel.connect()
                sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
                found = sentinel.read_response()
            except (exceptions.RedisError, OSError) as error:
                trouble.append(f"{address}: {error}")
                continue
            finally:
                if sentinel is not None:
                    sentinel.disconnect()
            if found:
                host, port = found
                return Address(host.decode(), int(port))
            trouble.append(f"{address}: it knows no service {service!r}")
        raise exceptions.ConnectionError(
            "no Sentinel says where the server is: " + "; ".join(trouble)
        )

    def _check_role(self, connection: Connection) -> None:
        connection.send_command("ROLE")
        role = connection.read_response()[0]
        if role != b"master":
            raise exceptions.ConnectionError(
                f"the server that the Sentinels name is a {role.decode()}"
            )

    def _connect(self, address: Address, timeout: float) -> Connection:
        connection = self._make(address, timeout)
        connection.connect()
        return connection

    def _make(self, address: Address, timeout: float, *, sentinel: bool = False) -> Connection:
        location, options = self.location, self.options
        username, password, db = location.username, location.password, location.db
        if sentinel:
            username, password, db = options.sentinel_username, options.sentinel_password, 0
        common: dict[str, Any] = {
            **_SILENT,
            "username": username,
            "password": password,
            "db": db,
            "socket_timeout": timeout,
            "protocol": 2,
        }
        # The driver's type annotations do not describe these arguments well.
        kinds: Any = driver
        made: Connection
        if address.path:
            made = kinds.UnixDomainSocketConnection(path=address.path, **common)
            return made
        common |= {
            "host": address.host,
            "port": address.port,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
        }
        if location.tls:
            common |= {
                "ssl_ca_certs": options.ssl_ca_certs,
                "ssl_certfile": options.ssl_certfile,
                "ssl_keyfile": options.ssl_keyfile,
                "ssl_check_hostname": options.ssl_check_hostname,
            }
        made = kinds.SSLConnection(**common) if location.tls else kinds.Connection(**common)
        return made
