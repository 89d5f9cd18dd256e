"""The checks that middleware share."""

import math
from datetime import timedelta

import pytest

from flask_taskq.actors.option_checks import check_bool
from flask_taskq.actors.option_checks import check_count
from flask_taskq.actors.option_checks import check_duration


@pytest.mark.parametrize("value", [0, 1, 250, timedelta(0), timedelta(seconds=1.5)])
def test_a_duration_is_milliseconds_or_a_timedelta(value):
    check_duration("wait", value)


@pytest.mark.parametrize("value", [-1, 1.5, True, "1000", None, timedelta(-1), math.inf])
def test_what_is_no_duration_is_refused_with_what_it_may_be(value):
    with pytest.raises(ValueError, match="wait is .*; it is milliseconds as an int from 0, or"):
        check_duration("wait", value)


def test_a_duration_can_have_a_least():
    check_duration("wait", 1, least=1)
    with pytest.raises(ValueError, match="wait is 0; it is milliseconds as an int from 1"):
        check_duration("wait", 0, least=1)


def test_none_is_a_duration_where_it_stands_for_something():
    """The text then says for what."""
    check_duration("wait", None, none="no limit")
    with pytest.raises(ValueError, match='a timedelta, or None or float."inf". for no limit'):
        check_duration("wait", -1, none="no limit")


@pytest.mark.parametrize("value", [-1, 1.0, True, "3", 1_000_000_001])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(
        ValueError, match="most is .*; it is an int from 0 to 1,000,000,000, or None"
    ):
        check_count("most", value)


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_only_true_and_false_are_true_or_false(value):
    with pytest.raises(ValueError, match="wanted is .*; it is True or False"):
        check_bool("wanted", value)
