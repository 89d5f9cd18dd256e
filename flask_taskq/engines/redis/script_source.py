"""The Lua scripts. Each transition is one script, which the server runs in one atomic step."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_COMMENT: Final = re.compile(r"(^|\s)--.*")


class Script:
    """A Lua script, with the shared declarations that it uses.

    :param parts: the names of other files with shared declarations, besides ``common.lua``.
    """

    def __init__(self, name: str, *parts: str) -> None:
        self.name = name
        # The source is created here and not when it is first needed. Lazy evaluation with
        # functools takes a lock, which another thread may hold while a job forks.
        self.source = _assemble(name, ("common", *parts)).encode()
        #: The name of the script in the server.
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


def _assemble(name: str, parts: Sequence[str]) -> str:
    # Each call of a script creates all of its functions and values again. With all shared
    # declarations, this would take a third of the time in which the server stores a job.
    shared = [block for part in parts for block in _split(part)]
    needed = [_text(name)]
    words = set(_WORD.findall(needed[0]))
    for names, found, block in reversed(shared):  # a block only uses earlier ones
        if not words.isdisjoint(names):
            words |= found
            needed.append(block)
    return "".join(reversed(needed))


def _text(name: str) -> str:
    text = resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text("utf-8")
    lines = (_COMMENT.sub("", line).rstrip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


@functools.cache
def _split(part: str) -> list[tuple[set[str], set[str], str]]:
    """Return the declarations in a file: the names that each declares, the words in it, and its
    text."""
    found = []
    for block in re.split(r"^(?=local )", _text(part), flags=re.MULTILINE)[1:]:
        names = block.partition("(" if block.startswith("local function") else "=")[0]
        declared = set(_WORD.findall(names)) - {"local", "function"}
        found.append((declared, set(_WORD.findall(block)), block))
    return found


ENQUEUE: Final = Script("enqueue")
FETCH: Final = Script("fetch", "claim_functions")
CLAIM: Final = Script("claim", "claim_functions")
SETTLE: Final = Script("settle", "transition_functions", "claim_functions")
REPORT: Final = Script("report")
GET_QUEUED: Final = Script("get_queued")
CANCEL: Final = Script("cancel", "transition_functions", "cleanup_functions")
REQUEUE: Final = Script("requeue", "transition_functions")
DELETE: Final = Script("delete", "transition_functions", "cleanup_functions")
LIST_QUEUED: Final = Script("list_queued")
LIST_FINAL: Final = Script("list_final")
RESUME: Final = Script("resume")
PRUNE: Final = Script("prune")
PURGE: Final = Script("purge", "cleanup_functions")
PURGE_DUE: Final = Script("purge_due")
RENEW: Final = Script("renew")
DESCRIBE_WORKER: Final = Script("describe_worker")
LIST_WORKERS: Final = Script("list_workers")
BEGIN_RECLAIM: Final = Script("begin_reclaim")
RECLAIM: Final = Script("reclaim", "transition_functions")
HAS_DUE: Final = Script("has_due")
