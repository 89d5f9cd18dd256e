"""Every transition is one script, which the server runs in one step."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_COMMENT: Final = re.compile(r"(^|\s)--.*")


class Script:
    """A Lua script, with what it needs of what all of them share.

    :param parts: what it has in common with some of them, besides ``common.lua``.
    """

    def __init__(self, name: str, *parts: str) -> None:
        self.name = name
        self._parts = ("common", *parts)

    @functools.cached_property
    def source(self) -> bytes:
        """The text of the script."""
        # Whatever stands in a script is made anew with each call, each function of it too. All
        # that is shared would take a third of the time in which the server stores a job.
        shared = [block for part in self._parts for block in _split(_text(part))]
        needed = [_text(self.name)]
        words = set(_WORD.findall(needed[0]))
        for names, block in reversed(shared):  # what a block needs stands before it
            if not words.isdisjoint(names):
                words.update(_WORD.findall(block))
                needed.append(block)
        return "".join(reversed(needed)).encode()

    @functools.cached_property
    def sha(self) -> bytes:
        """By what the server knows it."""
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


def _text(name: str) -> str:
    text = resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text("utf-8")
    lines = (_COMMENT.sub("", line).rstrip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def _split(text: str) -> list[tuple[set[str], str]]:
    """The declarations of a text, and the names that each declares."""
    found = []
    for block in re.split(r"^(?=local )", text, flags=re.MULTILINE)[1:]:
        names = block.partition("(" if block.startswith("local function") else "=")[0]
        found.append((set(_WORD.findall(names)) - {"local", "function"}, block))
    return found


ENQUEUE: Final = Script("enqueue")
FETCH: Final = Script("fetch", "claiming")
CLAIM: Final = Script("claim", "claiming")
SETTLE: Final = Script("settle", "changing", "claiming")
REPORT: Final = Script("report")
LOOK: Final = Script("look")
CANCEL: Final = Script("cancel", "changing", "leftovers")
REQUEUE: Final = Script("requeue", "changing")
DELETE: Final = Script("delete", "changing", "leftovers")
HEADS: Final = Script("heads")
TAILS: Final = Script("tails")
RESUME: Final = Script("resume")
PRUNE: Final = Script("prune")
PURGE: Final = Script("purge", "leftovers")
PURGE_DUE: Final = Script("purge_due")
RENEW: Final = Script("renew")
INTRODUCE: Final = Script("introduce")
INFOS: Final = Script("infos")
CONDEMN: Final = Script("condemn")
TAKE: Final = Script("take", "changing")
HAS_DUE: Final = Script("has_due")
