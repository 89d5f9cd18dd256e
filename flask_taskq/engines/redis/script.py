"""Every transition is one script, which the server runs in one step."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final


class Script:
    """A Lua script, with what all of them share before it.

    :param parts: what it has in common with some of them, and stands between.
    """

    def __init__(self, name: str, *parts: str) -> None:
        self.name = name
        self.source = "".join(map(_text, ("common", *parts, name))).encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text("utf-8")


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
