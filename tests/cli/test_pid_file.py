"""The file with the supervisor's process id."""

import os
import subprocess
import sys

import click
import pytest

from flask_taskq.cli.pid_file import write_pid_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pid"


def dead_pid():
    """The id of a process that was, and is not any more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_the_file_holds_the_process_id_while_the_block_runs(path):
    """And is gone afterwards."""
    with write_pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_the_file_is_gone_after_an_error(path):
    """However the block ends."""
    with pytest.raises(SystemExit), write_pid_file(path):
        raise SystemExit
    assert not path.exists()


def test_without_a_path_nothing_is_written(tmp_path):
    """The option was not given."""
    with write_pid_file(None):
        assert list(tmp_path.iterdir()) == []


def test_a_file_left_by_a_dead_process_is_taken_over(path):
    """Its process was killed."""
    path.write_text(str(dead_pid()))
    with write_pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_of_its_own_process_id_is_taken_over(path):
    """In a container it is the same each time."""
    path.write_text(str(os.getpid()))
    with write_pid_file(path):
        pass
    assert not path.exists()


@pytest.mark.parametrize("pid", [os.getppid(), 1])
def test_a_file_of_a_living_process_is_respected(path, pid):
    """Also where that process may not be signalled."""
    path.write_text(f"{pid}\n")
    with pytest.raises(click.ClickException, match=f"process {pid} is running already"):
        with write_pid_file(path):
            raise AssertionError
    assert path.read_text() == f"{pid}\n"


@pytest.mark.parametrize("text", ["", "important notes", "12 34", "0", "-1", "9" * 30, "\xff"])
def test_a_file_that_is_no_pid_file_is_not_overwritten(path, text):
    """Somebody mistook it; zero and negative numbers are groups of processes."""
    path.write_text(text, "latin-1")
    with pytest.raises(click.ClickException, match="is not a pid file"):
        with write_pid_file(path):
            raise AssertionError
    assert path.read_text("latin-1") == text


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    """With a text, and no traceback."""
    with pytest.raises(click.ClickException, match="cannot be written"):
        with write_pid_file(tmp_path / "missing" / "pid"):
            raise AssertionError


def test_a_file_that_another_process_has_taken_is_left(path):
    """It is not ours to remove."""
    with write_pid_file(path):
        path.write_text("1\n")
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("becomes", [None, "garbage"])
def test_a_file_that_was_removed_or_overwritten_is_no_matter(path, becomes):
    """The worker ends as it would have."""
    with write_pid_file(path):
        if becomes is None:
            path.unlink()
        else:
            path.write_text(becomes)
    assert path.exists() is (becomes is not None)
