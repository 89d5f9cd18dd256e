"""Time as it passes for a program that shares its machine with others.

A promise such as "within a second" is about what the package does, and a test of it must
not fail for what else the machine does. So a process beside the tests does a small piece of
work again and again: while that takes three times as long as it can, a second counts as a
third of one, and while that process is not woken, time stands still.

Run as a program this is that process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Seconds from one piece of work to the next.
PAUSE = 0.1

#: A piece of work: more than a scheduler lets pass at once, and little by the second.
STEPS = 60_000

#: How many pieces are done at the start, to see how fast the machine can be.
TRIALS = 10

#: A net under the wait for a beat, in seconds.
NET = 60.0


class Beat(NamedTuple):
    """A piece of work and the pause after it, in seconds of the monotonic clock."""

    began: float
    worked: float
    ended: float


class Pulse:
    """The beats of a process that has nothing else to do."""

    def __init__(self) -> None:
        self._beats: list[Beat] = []
        self._changed = threading.Condition()
        # It ends with the pipe, and so with this process.
        self._process = subprocess.Popen(
            [sys.executable, "-IS", __file__], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait_until(time.monotonic())

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._beats.append(Beat(*map(float, line.split())))
                self._changed.notify_all()

    def wait_until(self, at: float) -> list[Beat]:
        """Wait for the beat that ends after this time; all beats until then."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._beats and self._beats[-1].ended >= at, NET
            )
            assert done, "the pulse of the machine has stopped"
            return list(self._beats)


def weigh(beats: Sequence[Beat], since: float, until: float) -> float:
    """The time between two moments, as far as the machine had it to give."""
    calm = min(beat.worked for beat in beats)
    seconds = until - since
    for beat in beats:
        part = min(beat.ended, until) - max(beat.began, since)
        if part > 0:
            length = beat.ended - beat.began
            on_time = min(1.0, (beat.worked + PAUSE) / length)
            seconds -= part * (1 - on_time * calm / beat.worked)
    return seconds


@cache
def start_pulse() -> Pulse:
    """Measure from now on."""
    return Pulse()


def machine_seconds(since: float, until: float | None = None) -> float:
    """How long something took, in seconds in which the machine had time for it.

    :param since: on the monotonic clock, in seconds.
    :param until: likewise; by default now.
    """
    ended = time.monotonic() if until is None else until
    return weigh(start_pulse().wait_until(ended), since, ended)


def start_of(pid: int) -> float:
    """When a process was started, on the monotonic clock, in seconds."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return ticks / os.sysconf("SC_CLK_TCK") - since_boot


def work() -> float:
    """Do a piece of work, and return how long it took."""
    began = time.monotonic()
    for _ in range(STEPS):
        pass
    return time.monotonic() - began


def beat_on() -> None:
    worked = min(work() for _ in range(TRIALS))
    began = time.monotonic() - worked
    while True:
        time.sleep(PAUSE)
        ended = time.monotonic()
        print(began, worked, ended, flush=True)
        began, worked = ended, work()


if __name__ == "__main__":
    try:
        beat_on()
    except (BrokenPipeError, KeyboardInterrupt):
        pass
