"""Processes in a namespace of their own, as in a container."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Sequence

import pytest

#: Ids of processes that mean nothing to others, with a /proc that shows them.
IDS = ("--pid", "--mount-proc")

#: Only the times when processes have started, which are those of everybody all the same.
TIMES = ("--time",)


@functools.cache
def in_another_namespace(kinds: Sequence[str] = IDS) -> list[str]:
    """What to put before a command, so that nobody else can prove that its process is dead.

    Where the system refuses that the test fails under ``CI=true``, and is skipped elsewhere.
    """
    command = ["unshare", "--fork", "--kill-child", *kinds]
    command += ["--user", "--map-root-user"] if os.geteuid() else []
    try:
        refused = subprocess.run([*command, "true"], capture_output=True, timeout=60).stderr
    except FileNotFoundError as error:
        refused = str(error).encode()
    if refused:
        problem = f"no namespace of its own is to be had here: {refused.decode()}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    return command
