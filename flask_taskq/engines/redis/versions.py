"""The check that this release can use the keys of another release."""

from __future__ import annotations

from typing import Any
from typing import Final

from ...errors import ConfigurationError
from .server_checks import Connection

#: The version of the keys that this release uses. The top of ``scripts/common.lua`` lists the
#: keys.
LAYOUT: Final = 2

#: A release that supports this version or a later one can use these keys. Adding a key, or
#: adding data after the texts of a record, does not change this number.
OLDEST_LAYOUT: Final = 2

#: Keys of versions before the first release.
_EARLY: Final = ("waiting", "over:result", "holders")


def check_layout(connection: Connection, prefix: str, where: str) -> None:
    """Make sure that this release can use the keys of a namespace. If there are none, store the
    version.

    :param prefix: the beginning of every key.
    :param where: the name of the server in errors.
    :raises ConfigurationError: this release cannot use the keys.
    """
    found = _ask(connection, "GET", f"{prefix}layout")
    if found is None:
        if _ask(connection, "EXISTS", *(f"{prefix}{name}" for name in _EARLY)):
            raise ConfigurationError(
                f"{where}: the keys that begin with {prefix!r} were made by a version of"
                " flask_taskq from before its first release, which this one does not read; run"
                " what is there with that version and delete these keys, or choose another"
                " TASKQ_NAMESPACE"
            )
        _ask(connection, "SET", f"{prefix}layout", f"{LAYOUT}:{OLDEST_LAYOUT}", "NX")
        return
    version, _, oldest = found.decode("ascii", "replace").partition(":")
    if not oldest.isdecimal() or int(oldest) > LAYOUT:
        raise ConfigurationError(
            f"{where}: the keys that begin with {prefix!r} have version {version}, and can be"
            f" used from version {oldest} on; this release of flask_taskq knows version"
            f" {LAYOUT}; install a newer one, or choose another TASKQ_NAMESPACE"
        )


def _ask(connection: Connection, *words: str) -> Any:
    connection.send_command(*words)
    return connection.read_response(disable_decoding=True)
