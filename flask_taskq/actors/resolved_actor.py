"""The hooks and the options of an actor, computed once and not for each message."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from .actor import Actor
from .hook_chain import Chain
from .hook_chain import RunHooks
from .middleware_options import OptionTable


class ResolvedActor(NamedTuple):
    """The hooks and options for messages of an actor that have no options of their own.

    :param actor: None for all actors that this process does not know.
    :param hooks: those around its runs.
    :param options: the value of each.
    :param max_attempts: how many runs its jobs have at most; None if that is not known.
    """

    actor: Actor[..., Any] | None
    hooks: RunHooks
    options: Mapping[str, Any]
    max_attempts: int | None


def resolve_actor(
    actor: Actor[..., Any] | None, chain: Chain, table: OptionTable
) -> ResolvedActor:
    """Return the resolved actor, by the middleware that there is now."""
    options = table.values(actor)
    return ResolvedActor(
        actor=actor,
        hooks=chain.any_run if actor is None else chain.for_runs_of(actor),
        options=options,
        max_attempts=find_max_attempts(options.get, "max_retries" in table.names, True),
    )


def find_max_attempts(
    option: Callable[[str], Any], are_retried: bool, by_error: bool
) -> int | None:
    """How many runs a job has at most; None if that is not known.

    :param option: finds the value of an option for the job's message.
    :param are_retried: whether jobs are retried at all.
    :param by_error: whether the number of retries may depend on the error.
    """
    if not are_retried:
        return 1
    if option("retry_when") is not None:
        return None
    most = [option("max_retries")]
    table = option("retry_on")
    if table and by_error:
        # Which row will count is not known before the job has failed.
        most += [row.get("max_retries", most[0]) for row in table.values()]
    return None if None in most else max(most) + 1
