"""How many processes a worker has, if nobody says."""

import os

import pytest

from flask_taskq.cli import cpus
from flask_taskq.cli.cpus import count_cpus
from flask_taskq.cli.cpus import read_quota


@pytest.fixture
def quota(tmp_path):
    """Reads the quota of a process in these groups."""

    def quota(memberships, files):
        (tmp_path / "cgroup").write_text(memberships)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return read_quota(tmp_path / "cgroup", tmp_path / "fs")

    return quota


def first(quota, period, path=""):
    """The two files that a group of version 1 has."""
    return {f"{path}cpu.cfs_quota_us": quota, f"{path}cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": ""}, None),
        ({"cpu.max": "1 0\n"}, None),
        ({}, None),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ({"a/b/cpu.max": "200000 100000", "a/cpu.max": "300000 100000"}, 2.0),
        ({"a/b/cpu.max": "200000 100000", "cpu.max": "50000 100000"}, 0.5),
        ({"a/c/cpu.max": "100000 100000"}, None),
    ],
)
def test_the_least_quota_up_the_tree_counts(quota, files, expected):
    """A group has no more than what those around it have; version 2."""
    assert quota("0::/a/b\n", files) == expected


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("4:cpu,cpuacct:/", first("250000", "100000", "cpu,cpuacct/"), 2.5),
        ("4:cpu,cpuacct:/", first("250000", "100000", "cpu/"), 2.5),
        ("1:cpu:/a", first("100000", "50000", "cpu/a/"), 2.0),
        ("1:cpu:/a", first("-1", "100000", "cpu/a/"), None),
        ("3:cpuset:/", first("100000", "100000", "cpuset/"), None),
        (
            "1:cpu:/a",
            {**first("-1", "100000", "cpu/a/"), **first("100000", "100000", "cpu/")},
            1.0,
        ),
    ],
)
def test_the_quota_of_version_1_counts(quota, line, files, expected):
    """Its files are below the name of the controller, which may be one of two."""
    assert quota(f"9:name=systemd:/x\n{line}\n0::/\n", files) == expected


def test_a_container_that_sees_the_path_of_its_host_has_its_own_limit(quota):
    """Its own group is what is mounted at the top."""
    line = "1:cpu:/docker/3f2d9a0c5b7e\n0::/../../init.scope\n"
    assert quota(line, first("100000", "100000", "cpu/")) == 1.0
    assert quota("0::/../..\n", {"cpu.max": "200000 100000"}) == 2.0


def test_where_there_are_no_groups_there_is_no_quota(tmp_path):
    """As on other systems than Linux."""
    assert read_quota(tmp_path / "none", tmp_path) is None


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many CPUs, so many of them for this process, and a quota."""

    def machine(cores, allowed, quota):
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(allowed))
        monkeypatch.setattr(os, "process_cpu_count", lambda: allowed, raising=False)
        monkeypatch.setattr(cpus, "read_quota", lambda: quota)

    return machine


@pytest.mark.parametrize(
    ("limits", "count", "reason"),
    [
        ((8, 8, None), 8, "CPUs of the machine: 8"),
        ((8, 3, None), 3, "CPUs that it may run on: 3"),
        ((8, 8, 1.5), 2, "CPUs of its cgroup: 1.5"),
        ((8, 8, 0.1), 1, "CPUs of its cgroup: 0.1"),
        ((2, 2, 16.0), 2, "CPUs of the machine: 2"),
        ((None, 4, None), 1, "CPUs of the machine: 1"),
    ],
)
def test_the_least_limit_counts_and_is_named(machine, limits, count, reason):
    """Quotas are rounded up: a process that gets half of a CPU is better than none."""
    machine(*limits)
    assert count_cpus() == (count, reason)
