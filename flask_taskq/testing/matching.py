"""What a test expects to be enqueued, and how that differs from what is."""

from __future__ import annotations

import difflib
import pprint
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from typing import Final
from typing import NamedTuple

from ..actors.actor import Actor
from ..actors.job import Job
from ..config import milliseconds
from ..errors import BadArguments
from ..jobs.encoding import decode_value
from ..jobs.encoding import encode_value

#: How much of what is enqueued a failure shows, in jobs, lines of one value, and characters.
_MAX_JOBS: Final = 5
_MAX_LINES: Final = 30
_MAX_CALL: Final = 200
_WIDTH: Final = 76


class _Absent:
    def __repr__(self) -> str:
        return "(not given)"


_ABSENT: Final = _Absent()


class Difference(NamedTuple):
    """One part of a job that is not as expected."""

    part: str
    expected: Any
    found: Any


class Expectation:
    """What a test says of a job.

    :param actor: whose job it is.
    :param args: its arguments by position, all that are not left at their defaults; None for
        any.
    :param kwargs: some of its arguments, by name.
    :param queue: where it waits; None for anywhere.
    :param delay: milliseconds that it waits after it was sent; None for any.
    :raises BadArguments: the actor does not take such arguments.
    """

    def __init__(
        self,
        actor: Actor[..., Any],
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: int | timedelta | None = None,
    ) -> None:
        self._actor = actor
        self._args = None if args is None else tuple(args)
        self._kwargs = dict(kwargs or {})
        self._queue = queue
        self._delay = None if delay is None else milliseconds(delay)
        try:
            actor.signature.bind_partial(*(self._args or ()), **self._kwargs)
        except TypeError as error:
            # A name that no job can have would make each refusal of it pass.
            raise BadArguments(
                f"actor {actor.actor_name!r} takes {actor.signature}: {error}"
            ) from None
        self._defaults = {
            parameter.name: as_json(parameter.default)
            for parameter in actor.signature.parameters.values()
            if parameter.default is not parameter.empty
        }
        named = self._name(self._args or (), self._kwargs)
        self._arguments = {name: as_json(value) for name, value in named.items()}
        if self._args is not None:
            # All of them: what is not among them has its default, given or not.
            for name in actor.parameters:
                self._arguments.setdefault(name, self._defaults.get(name, _ABSENT))

    def differences(self, job: Job[Any]) -> list[Difference]:
        """Where a job is not as expected; nothing if it is."""
        if job.record.actor != self._actor.actor_name:
            return [Difference("actor", self._actor.actor_name, job.record.actor)]
        return [*self._compare_arguments(job), *self._compare_places(job)]

    def __str__(self) -> str:
        words = [repr(value) for value in self._args or ()]
        words += [f"{name}={value!r}" for name, value in self._kwargs.items()]
        words += ["..."] if self._args is None else []
        places = [f"in queue {self._queue!r}"] if self._queue is not None else []
        places += [f"after {self._delay:,} ms"] if self._delay is not None else []
        return f"{self._actor.actor_name}({', '.join(words)})  {', '.join(places)}".rstrip()

    def _name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        # By name, so that it does not matter which way a view gives an argument.
        names = self._actor.parameters
        more = [f"argument {number}" for number in range(len(names) + 1, len(args) + 1)]
        return {**dict(zip([*names, *more], args, strict=False)), **kwargs}

    def _compare_arguments(self, job: Job[Any]) -> Iterator[Difference]:
        message = job.message
        given = self._name(message.args, message.kwargs)
        for name, expected in self._arguments.items():
            found = given.get(name, self._defaults.get(name, _ABSENT))
            if expected != found:
                yield Difference(name, expected, found)
        if self._args is not None:
            # More than the function has names for.
            for name, found in self._name(message.args, {}).items():
                if name not in self._arguments:
                    yield Difference(name, _ABSENT, found)

    def _compare_places(self, job: Job[Any]) -> Iterator[Difference]:
        if self._queue is not None and self._queue != job.record.queue:
            yield Difference("queue", self._queue, job.record.queue)
        if self._delay is not None and self._delay != delay_of(job):
            yield Difference("delay", self._delay, delay_of(job))


def delay_of(job: Job[Any]) -> int:
    """How long a job waits after it was sent, in milliseconds; 0 if it does not."""
    record, options = job.record, job.message.options
    if record.started_at is None and record.scheduled_for is not None:
        return record.scheduled_for - record.created_at
    if "eta" in options:
        return max(0, int(options["eta"]) - record.created_at)
    return int(options.get("delay") or 0)


def as_json(value: Any) -> Any:
    """A value as a job has it, once it was written and read back. What compares with
    anything, or roughly, is no JSON and stays as it is.
    """
    try:
        return decode_value(encode_value(value))
    except (TypeError, ValueError):
        pass
    if isinstance(value, Mapping):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return value


def describe_missing(
    expected: Expectation, waiting: Sequence[Job[Any]], gone: Sequence[Job[Any]]
) -> str:
    """Why nothing that is enqueued is as expected, the nearest first.

    :param waiting: what is enqueued.
    :param gone: what is as expected, and is not enqueued any more.
    """
    paragraphs = [f"not enqueued: {expected}"]
    if gone:
        paragraphs.append("It was, and has left the queue:")
        paragraphs += _list(gone)
    if waiting:
        compared = [(expected.differences(job), job) for job in waiting]
        compared.sort(key=lambda pair: (pair[0][0].part == "actor", len(pair[0])))
        paragraphs.append("This is enqueued, the nearest first (- is expected, + is enqueued):")
        paragraphs += [_compared(*pair) for pair in compared[:_MAX_JOBS]]
        paragraphs += _and_more(compared)
    else:
        paragraphs.append("Nothing at all is enqueued.")
    return "\n\n".join(paragraphs)


def describe_count(expected: Expectation, count: int, found: Sequence[Job[Any]]) -> str:
    """Why the number of jobs that are as expected is wrong.

    :param found: those jobs, of which there is at least one.
    """
    wrong = f"enqueued {_times(len(found))} and not {_times(count)}"
    headline = wrong if count else "enqueued, though it should not be"
    return "\n\n".join([f"{headline}: {expected}", *_list(found)])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _list(jobs: Sequence[Job[Any]]) -> list[str]:
    return ["\n".join(_line(job) for job in jobs[:_MAX_JOBS]), *_and_more(jobs)]


def _and_more(jobs: Sequence[Any]) -> list[str]:
    more = len(jobs) - _MAX_JOBS
    return [f"    ... and {more} more"] if more > 0 else []


def _compared(differences: Sequence[Difference], job: Job[Any]) -> str:
    lines = [_line(job)]
    for part, expected, found in differences:
        lines.append(f"      {part}:")
        lines += [f"        {line}" for line in _diff(expected, found)]
    return "\n".join(lines)


def _line(job: Job[Any]) -> str:
    call = str(job.message)
    if len(call) > _MAX_CALL:
        call = call[: _MAX_CALL - 1] + "…"
    return f"    {call}  {job.status} in {job.record.queue!r}"


def _diff(expected: Any, found: Any) -> list[str]:
    before, after = (
        pprint.pformat(value, width=_WIDTH, sort_dicts=False).splitlines()
        for value in (expected, found)
    )
    lines = [line.rstrip() for line in difflib.ndiff(before, after)]
    changed = [number for number, line in enumerate(lines) if line[:1] in ("-", "+", "?")]
    near = {number + step for number in changed for step in (-1, 0, 1)}
    shown: list[str] = []
    for number, line in enumerate(lines):
        if number in near:
            shown.append(line)
        elif shown[-1:] != ["..."]:
            shown.append("...")
    return shown if len(shown) <= _MAX_LINES else [*shown[:_MAX_LINES], "..."]
