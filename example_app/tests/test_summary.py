"""The work itself, called as what it is: a function."""

from __future__ import annotations

import pytest

from example_app.pages import SAMPLE
from example_app.summary import Column
from example_app.summary import summarise


def column(*cells: str) -> Column:
    """The summary of one column, beside one that is always full."""
    text = "x,y\n" + "".join(f"{cell},1\n" for cell in cells)
    return summarise(text.encode(), "data.csv")["columns"][0]


def test_the_sample_is_summarised() -> None:
    """Numbers, dates, texts and gaps are all in it."""
    summary = summarise(SAMPLE.read_bytes(), "sample.csv")
    types = {column["name"]: column["type"] for column in summary["columns"]}
    assert (types["date"], types["country"], types["price"]) == ("date", "text", "number")
    rating = summary["columns"][-1]
    assert (rating["name"], rating["missing"] > 0) == ("rating", True)


def test_numbers_have_a_mean() -> None:
    """Also with a sign, a fraction and an exponent, and with gaps."""
    assert column("-1", "2.5", "", "1e1") == {
        "name": "x",
        "type": "number",
        "missing": 1,
        "min": -1,
        "mean": pytest.approx(11.5 / 3),
        "max": 10,
        "most_frequent": [],
        "bars": [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
    }


def test_dates_have_a_first_and_a_last() -> None:
    """They are compared as dates."""
    dates = column("2025-03-01", "2024-12-31")
    assert (dates["type"], dates["min"], dates["max"]) == ("date", "2024-12-31", "2025-03-01")


@pytest.mark.parametrize("odd", ["nan", "inf", "1_000", "1e999", "12 kg"])
def test_what_only_looks_like_a_number_is_text(odd: str) -> None:
    """Such values have no mean, and some of them no place in JSON."""
    assert column("1", odd)["type"] == "text"


def test_a_column_may_be_empty() -> None:
    """Then there is nothing to say but how many are missing."""
    empty = column("", "")
    assert (empty["type"], empty["missing"]) == ("empty", 2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(delimiter: str) -> None:
    """Together with what spreadsheets put around the text."""
    text = f"\ufeffa{delimiter}b\r\n1{delimiter}2\r\n\r\n"
    summary = summarise(text.encode(), "data.csv")
    assert [column["name"] for column in summary["columns"]] == ["a", "b"]
    assert summary["rows"] == 1


@pytest.mark.parametrize("cells", [("7", "7"), ("1e308", "-1e308")])
def test_values_without_a_usable_range_have_no_bars(cells: tuple[str, ...]) -> None:
    """All the same, or further apart than a float can say."""
    assert column(*cells)["bars"] == []


def test_no_value_falls_out_of_the_bars() -> None:
    """The largest one lies on the edge of the last bar."""
    assert column(*map(str, range(25)))["bars"] == [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]


def test_the_work_tells_how_far_it_is() -> None:
    """Never backwards, in the end all of it, and seldom enough for a large file."""
    told: list[tuple[int, int, str]] = []
    text = "x,y\n" + "1,2\n" * 10_000
    summarise(text.encode(), "data.csv", lambda *step: told.append(step))
    done = [current / total for current, total, _ in told]
    assert done == sorted(done)
    assert done[-1] == 1
    assert 20 < len(done) < 60
