"""``TASKQ_*`` keys of an app, read once into one frozen, checked object."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated
from typing import Any
from typing import Final
from typing import get_args
from typing import get_origin
from typing import get_type_hints
from typing import Literal

import msgspec
from msgspec import Meta

from .clock import LONGEST
from .errors import ConfigurationError

#: The largest message that any configuration allows, in bytes.
MAX_BYTES: Final = 64 * 1024 * 1024

DEFAULT_URL: Final = "sqlite:///taskq.sqlite3"

_URLS: Final = frozenset({"broker_url", "results_url"})

#: In place of what may be secret.
_HIDDEN: Final = "***"

_Duration = Annotated[int, Meta(ge=0, le=LONGEST)]
_Size = Annotated[int, Meta(ge=1)]
_MessageSize = Annotated[int, Meta(ge=1, le=MAX_BYTES)]
_Namespace = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,31}\Z")]
Exposable = Literal[
    "actor", "queue", "result", "error", "error_message", "progress", "metadata"
]
_UrlPrefix = Annotated[str, Meta(pattern=r"^(/[^/<>\s]+)+\Z")]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one app; field ``x_y`` holds the key ``TASKQ_X_Y``.

    Durations are milliseconds, sizes are bytes. What each key means is written once, in
    ``docs/configuration.rst``.
    """

    broker_url: str = DEFAULT_URL
    broker_options: dict[str, Any] = msgspec.field(default_factory=dict)
    results_url: str | None = None
    namespace: _Namespace = "taskq"
    lease: Annotated[int, Meta(ge=1000, le=LONGEST)] = 30_000
    grace: _Duration = 25_000
    max_retries: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = 3
    min_backoff: _Duration = 15_000
    max_backoff: _Duration = 7 * 24 * 3600 * 1000
    time_limit: Annotated[int, Meta(ge=1, le=LONGEST)] | None = 600_000
    hard_limit_grace: _Duration = 10_000
    async_concurrency: Annotated[int, Meta(ge=1)] = 100
    max_crashes: Annotated[int, Meta(ge=1)] = 3
    result_ttl: _Duration = 24 * 3600 * 1000
    failed_ttl: _Duration = 7 * 24 * 3600 * 1000
    max_message_size: _MessageSize = 262_144
    max_result_size: _Size = 1_048_576
    unknown_actor_ttl: _Duration = 24 * 3600 * 1000
    middleware: tuple[Any, ...] = ()
    default_middleware: tuple[Any, ...] | None = None
    actors: tuple[str, ...] = ()
    eager: bool = False
    keep_logs: bool = False
    jobs_url_prefix: _UrlPrefix | None = "/jobs"
    expose: tuple[Exposable, ...] = ("actor", "result", "error", "progress", "metadata")

    # Where an engine's URL and options come from, for the texts of its errors. No fields.
    url_key = "TASKQ_BROKER_URL"
    option_keys = "TASKQ_BROKER_URL or TASKQ_BROKER_OPTIONS"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], instance_path: str) -> Settings:
        """Read and check the keys.

        :param values: the keys in lower case, without their prefix.
        :param instance_path: what the path in ``sqlite:///name`` is relative to.
        :raises ConfigurationError: a value is wrong; the text names the key.
        """
        types = get_type_hints(cls, include_extras=True)
        fields = {}
        for name, value in values.items():
            if name in _URLS and value in (None, ""):
                continue
            if name in types:
                fields[name] = _convert(name, value, types[name])
            else:
                _warn_of_unknown(name, types)
        fields.setdefault("broker_url", DEFAULT_URL)
        for name in _URLS & fields.keys():
            fields[name] = _resolve_path(name, fields[name], instance_path)
        return cls(**fields)

    def __repr__(self) -> str:
        shown = {
            **msgspec.structs.asdict(self),
            "broker_url": redact_url(self.broker_url),
            "broker_options": dict.fromkeys(self.broker_options, _HIDDEN),
            "results_url": None if self.results_url is None else redact_url(self.results_url),
        }
        fields = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"{type(self).__name__}({fields})"


def redact_url(url: str) -> str:
    """A broker URL that can be shown: without its password and what is in its query.

    It is for URLs in errors, too, which cannot be parsed. Where it is not clear what a
    part is, more is hidden than need be.
    """
    start = re.match(r"(?:[^:]*:)?/+|", url)
    prefix = start[0] if start else ""
    before, at, place = url.removeprefix(prefix).rpartition("@")
    name, colon, _ = before.partition(":")
    if re.search("[?#]", name):
        return prefix + _cut_place(name)
    if re.search("[?#]", before):
        return f"{prefix}{name}:{_HIDDEN}"  # an "@" in the query, or a "?" in the password
    user = f"{name}:{_HIDDEN}@" if colon else f"{before}{at}"
    return f"{prefix}{user}{_cut_place(place)}"


def _cut_place(text: str) -> str:
    # The name of a parameter does not show that it is secret: it may be misspelled. And what
    # stands in the place of a port and is no number may be a password.
    pattern = r"([?#]|\A[^:/?#\[]*:(?!\d+(?:[,/?#]|\Z))).+"
    return re.sub(pattern, rf"\1{_HIDDEN}", text, count=1, flags=re.DOTALL)


def milliseconds(value: int | timedelta) -> int:
    """A duration in milliseconds, given as such or as a timedelta."""
    if isinstance(value, timedelta):
        return round(value / timedelta(milliseconds=1))
    return value


def _convert(name: str, value: Any, type_: Any) -> Any:
    if isinstance(value, timedelta):
        value = milliseconds(value)
    is_list = any(get_origin(one) is tuple for one in (type_, *get_args(type_)))
    if is_list and isinstance(value, str):
        value = [word.strip() for word in value.split(",") if word.strip()]
    try:
        return msgspec.convert(value, type_, strict=False)
    except msgspec.ValidationError as error:
        # A URL and its options may carry a password, so their values are not repeated.
        shown = "" if name in (*_URLS, "broker_options") else f", got {value!r}"
        raise ConfigurationError(
            f"TASKQ_{name.upper()}: {error}{shown}{_hint(value, type_)}"
        ) from None


def _hint(value: Any, type_: Any) -> str:
    """What may have been meant by a value that is refused."""
    if isinstance(value, str) and value in ("", "None") and type(None) in get_args(type_):
        return "; in the environment, None is written null"
    if isinstance(value, int) and value > LONGEST:
        return "; a duration is in milliseconds, and at most 6,000 years"
    return ""


def _warn_of_unknown(name: str, known: Mapping[str, Any]) -> None:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean TASKQ_{near[0].upper()}?" if near else ""
    warnings.warn(
        f"TASKQ_{name.upper()} is no configuration key of flask_taskq{hint}",
        stacklevel=4,
    )


def _resolve_path(name: str, url: str, instance_path: str) -> str:
    prefix = "sqlite:///"
    if not url.startswith(prefix):
        return url
    path, mark, query = url.removeprefix(prefix).partition("?")
    if path in ("", ":memory:"):
        raise ConfigurationError(
            f"TASKQ_{name.upper()}: {redact_url(url)!r} names no file; for jobs in memory use"
            " memory://"
        )
    return prefix + os.path.join(os.path.abspath(instance_path), path) + mark + query
