"""Where a process under test dies, when it is told to."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from .event_log import append

#: What this process writes down, and looks for, is here. A test, which starts processes, has
#: a folder for each of them instead.
FOLDER = Path(os.environ.get("FAULTS_FOLDER", os.devnull))

#: The moments at which a process can be told to die, once: by a file of this name.
POINTS = (
    "after-claim",
    "after-start",
    "mid-job",
    "mid-progress",
    "after-return",
    "mid-flush",
    "after-flush",
    "mid-retry",
)


def take(point: str) -> float | None:
    """Whether a process is to die here, and this is the first that has come here.

    :return: in how many seconds; None lets it live.
    """
    try:
        delay = float((FOLDER / point).read_text())
        os.unlink(FOLDER / point)
    except FileNotFoundError:
        return None
    append(FOLDER, "fault", kind="kill", pids=[os.getpid()], point=point)
    return delay


def reach(point: str) -> None:
    """Die here, if that is what was asked for."""
    if take(point) is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def die_meanwhile(delay: float) -> None:
    """Die while this thread is inside the engine: another one waits for its turn to run."""
    go = threading.Event()

    def kill() -> None:
        go.wait()
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    go.set()
