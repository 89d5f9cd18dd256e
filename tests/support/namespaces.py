"""Processes in a namespace of their own, as in a container."""

from __future__ import annotations

import functools
import os
import subprocess

import pytest

#: Whose ids mean nothing to others, with a /proc that shows them.
_COMMAND = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@functools.cache
def in_another_namespace() -> list[str]:
    """What to put before a command, so that its process ids are of another namespace.

    Where the system refuses one the test fails under ``CI=true``, and is skipped elsewhere.
    """
    command = [*_COMMAND, *(["--user", "--map-root-user"] if os.geteuid() else [])]
    try:
        refused = subprocess.run([*command, "true"], capture_output=True, timeout=60).stderr
    except FileNotFoundError as error:
        refused = str(error).encode()
    if refused:
        problem = f"no namespace of process ids is to be had here: {refused.decode()}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    return command
