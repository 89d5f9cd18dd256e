"""The time of a machine that others use as well."""

from __future__ import annotations

import time

import pytest

from .machine_time import Beat
from .machine_time import machine_seconds
from .machine_time import PAUSE
from .machine_time import start_pulse
from .machine_time import weigh

CALM = Beat(0.0, 0.01, 0.01 + PAUSE)


def test_time_on_a_calm_machine_is_time() -> None:
    """Also that in which nobody measured."""
    assert weigh([CALM], 0.0, CALM.ended) == pytest.approx(CALM.ended)
    assert weigh([CALM], -1.0, 1.0) == pytest.approx(2.0)


def test_a_second_in_which_work_takes_three_times_as_long_is_a_third() -> None:
    """As it is for a program that has work to do."""
    busy = Beat(1.0, 0.03, 1.03 + PAUSE)
    assert weigh([CALM, busy], busy.began, busy.ended) == pytest.approx(0.13 / 3)


def test_time_in_which_nobody_was_woken_does_not_count() -> None:
    """The machine, or the one that it runs on, had stopped."""
    stopped = Beat(1.0, 0.01, 6.0)
    assert weigh([CALM, stopped], 1.0, 6.0) == pytest.approx(0.01 + PAUSE)


def test_only_the_part_of_a_beat_that_was_asked_for_counts() -> None:
    """What was before it, or came after it, has its own time."""
    busy = Beat(1.0, 0.02, 1.02 + PAUSE)
    assert weigh([CALM, busy], 1.04, 1.08) == pytest.approx(0.02)


def test_a_wait_is_as_long_as_it_is_and_no_longer() -> None:
    """The pulse of this machine, whatever else it does."""
    start_pulse()
    began = time.monotonic()
    start_pulse().wait_until(began + 3 * PAUSE)
    ended = time.monotonic()
    assert 0 < machine_seconds(began, ended) <= ended - began
