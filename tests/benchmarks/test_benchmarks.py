"""``python -m benchmarks``, in sizes that measure nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.measures import MEASURES
from benchmarks.table import as_json
from benchmarks.table import as_table
from benchmarks.table import Row
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
SMALL = [
    *"--rounds 1 --jobs 20 --sent 8 --at-once 2 --samples 2".split(),
    *"--waiting 10 --delayed 10 --seconds 0.1".split(),
]


def run(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )


def test_every_measure_gives_its_rows(tmp_path):
    """With a baseline where there is one, and nothing is left behind."""
    done = run(*SMALL, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = found["rows"]
    assert found["machine"]["engine"] == "sqlite"
    assert {row["measure"] for row in rows} == set(MEASURES)
    assert all(row["min"] <= row["median"] <= row["max"] for row in rows)
    without = {row["measure"] for row in rows if row["bare"] is None}
    assert without == {"calls", "drain", "idle", "memory", "processes", "seldom", "start"}
    assert list(tmp_path.iterdir()) == []


def test_redis_has_a_floor_of_its_own(tmp_path):
    """No key is left on the server. What is measured in a worker alone is the same code."""
    short = ["send", "many", "backlog", "latency", "room"]
    only = [word for name in short for word in ("--only", name)]
    with RedisServer() as server:
        done = run(*SMALL, *only, "--json", "--url", server.url, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        with server.connect() as client:
            assert client.dbsize() == 0
    rows = json.loads(done.stdout)["rows"]
    assert {row["measure"] for row in rows} == set(short)
    assert all(row["bare"] is not None for row in rows)


def test_one_measure_is_taken_alone(tmp_path):
    """As a table, on the file that the URL names."""
    url = f"sqlite:///{tmp_path}/disk.sqlite3"
    done = run(*SMALL, "--only", "many", "--url", url, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split() == ["unit", "median", "min", "max", "bare", "ratio"]
    assert row.startswith("send_many(), 1,000 at a time  jobs/s")
    assert list(tmp_path.iterdir()) == []


def test_two_revisions_are_measured_in_turns(tmp_path):
    """By the same code, and nothing is left behind. Here they are the same."""
    done = run(*SMALL, "--only", "many", "--against", "HEAD", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split() == ["unit", "HEAD", "now", "ratio"]
    assert row.startswith("send_many(), 1,000 at a time")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--url", "memory://"], "can be measured"),
        (["--url", "sqlite:///taken"], "name a file that does not exist"),
        (["--only", "luck"], "--only"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_what_cannot_be_measured_is_wrong_usage(capsys, arguments, text):
    """Said before anything is measured."""
    with pytest.raises(SystemExit) as caught:
        main([*SMALL, *arguments])
    output = capsys.readouterr()
    assert (caught.value.code, output.out) == (2, "")
    assert text in output.err


def test_a_file_that_exists_is_not_touched(tmp_path):
    """It may have the jobs of an app."""
    path = tmp_path / "jobs.sqlite3"
    path.write_text("mine")
    with pytest.raises(SystemExit):
        main([*SMALL, "--url", f"sqlite:///{path}"])
    assert path.read_text() == "mine"


ROWS = [
    Row("send", "send()", "jobs/s", [1000, 3000, 2000], [2000, 3000, 8000]),
    Row("idle", "worker", "%", [0.5]),
]


def test_a_ratio_is_taken_within_each_round():
    """The median of 0.5, 1.0 and 0.25, and not 2000 / 3000."""
    assert ROWS[0].ratio == 0.5


def test_the_table_has_a_line_for_each_row():
    """A row without a baseline has dashes."""
    assert as_table(ROWS).splitlines() == [
        "          unit  median    min    max   bare  ratio",
        "send()  jobs/s   2,000  1,000  3,000  3,000   0.50",
        "worker       %    0.50   0.50   0.50      -      -",
    ]


def test_the_json_has_every_value():
    """For who wants another statistic."""
    found = json.loads(as_json({"cpus": 2}, ROWS))
    assert found["machine"] == {"cpus": 2}
    assert found["rows"][0]["values"] == [1000, 3000, 2000]
    assert found["rows"][0]["bare"] == {"median": 3000, "values": [2000, 3000, 8000]}
    assert found["rows"][1]["bare"] is None
