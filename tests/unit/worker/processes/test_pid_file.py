"""The file with the supervisor's process id."""

import os
import subprocess
import sys

import pytest

from flask_taskq.worker.processes.pid_file import PidFileError
from flask_taskq.worker.processes.pid_file import write_pid_file


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
def test_a_number_that_another_process_has_by_now_is_taken_over(path, pid):
    """In a container that was started again, or after the machine was."""
    path.write_text(f"{pid}\n")
    with write_pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 6])
def test_an_empty_file_is_taken_over(path, content):
    """As a power cut leaves it, which may also fill it with zeros."""
    path.write_bytes(content)
    with write_pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


HOLD = """
import sys
from pathlib import Path
from flask_taskq.worker.processes.pid_file import PidFileError
from flask_taskq.worker.processes.pid_file import write_pid_file
with write_pid_file(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(path):
    """Another process that holds the file."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_file_of_a_living_worker_is_respected(path, holder):
    """The error names the process, and the file stays as it is."""
    with pytest.raises(PidFileError, match=f"process {holder.pid} is running already"):
        with write_pid_file(path):
            raise AssertionError
    assert path.read_text() == f"{holder.pid}\n"


def test_a_living_worker_is_respected_whatever_is_in_its_file(path, holder):
    """Somebody has emptied it: the lock counts."""
    path.write_text("")
    with pytest.raises(PidFileError, match="another worker is running already"):
        with write_pid_file(path):
            raise AssertionError


def test_a_file_of_a_killed_worker_is_taken_over(path, holder):
    """Its lock is gone with it."""
    holder.kill()
    holder.wait()
    assert path.exists()
    with write_pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    "text", ["important notes", "12 34", "0", "-1", "9" * 30, "9" * 300, "\xff", "1.5"]
)
def test_a_file_that_is_no_pid_file_is_not_overwritten(path, text):
    """Somebody mistook it."""
    path.write_text(text, "latin-1")
    with pytest.raises(PidFileError, match="is not a pid file"):
        with write_pid_file(path):
            raise AssertionError
    assert path.read_text("latin-1") == text


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    """With a text, and no traceback."""
    with pytest.raises(PidFileError, match="cannot be written"):
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
