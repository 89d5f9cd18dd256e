"""The table in shared memory that says what a process is doing."""

import math
import mmap
import os

import pytest

from flask_taskq.jobs.message import generate_id
from flask_taskq.worker.slot_table import SlotTable
from flask_taskq.worker.slot_table import StartedJob


@pytest.fixture
def table():
    table = SlotTable(3)
    yield table
    table.close()


@pytest.fixture
def shared():
    """Two tables over one file, as supervisor and child have them."""
    fd = SlotTable.open_file()
    child = SlotTable(2, fd)
    tables = SlotTable(None, fd), child
    os.close(fd)
    yield tables
    tables[0].close()


def test_nothing_has_started_at_first(table):
    """A child that dies at once has taken no job with it."""
    assert table.started() == []
    assert table.renewed_at == 0


def test_a_started_job_is_listed(table):
    """With the time at which it started."""
    job_id = generate_id()
    table.slots[1].start(job_id, 1234.5)
    assert table.started() == [StartedJob(job_id, 1234.5, math.inf)]


def test_an_ended_job_is_not_listed(table):
    """Its neighbours are."""
    ids = [generate_id() for _ in range(3)]
    for slot, job_id in enumerate(ids):
        table.slots[slot].start(job_id, slot)
    table.slots[1].end()
    assert [job.job_id for job in table.started()] == [ids[0], ids[2]]


def test_a_slot_can_be_used_again(table):
    """The new job is the one in it."""
    table.slots[0].start(generate_id(), 1)
    table.slots[0].end()
    job_id = generate_id()
    table.slots[0].start(job_id, 2)
    assert table.started() == [StartedJob(job_id, 2, math.inf)]


def test_a_job_may_have_a_limit(table):
    """Its process is replaced when it still runs by then; the next job has none."""
    job_id = generate_id()
    table.slots[2].start(job_id, 5)
    table.slots[2].limit(99.5)
    assert table.started() == [StartedJob(job_id, 5, 99.5)]
    table.slots[2].start(job_id, 6)
    assert table.started() == [StartedJob(job_id, 6, math.inf)]


def test_a_child_makes_the_table_as_large_as_it_needs():
    """Only its app says how many coroutines run at once."""
    fd = SlotTable.open_file()
    try:
        before = SlotTable(None, fd)
        child = SlotTable(108, fd)
        child.renewed_at = 3
        child.slots[107].start(generate_id(), 1)
        after = SlotTable(None, fd)
        assert (len(before.slots), len(after.slots), len(after.started())) == (0, 108, 1)
        assert before.renewed_at == 3
        for table in (before, child, after):
            table.close()
    finally:
        os.close(fd)


def test_every_slot_is_its_own(table):
    """The last one ends within the table; the first one does not touch the header."""
    table.renewed_at = 77.25
    ids = [generate_id() for _ in range(3)]
    for slot, job_id in enumerate(ids):
        table.slots[slot].start(job_id, slot + 0.5)
    assert table.started() == [StartedJob(ids[n], n + 0.5, math.inf) for n in range(3)]
    assert table.renewed_at == 77.25


def test_an_id_of_another_length_is_refused(table):
    """It would show as another job's."""
    with pytest.raises(ValueError):
        table.slots[0].start("7", 1)
    assert table.started() == []


def test_the_other_process_sees_what_was_written(shared):
    """Both ways: jobs to the supervisor, the lease to the child."""
    supervisor, child = shared
    job_id = generate_id()
    child.slots[1].start(job_id, 5)
    supervisor.renewed_at = 9
    assert supervisor.started() == [StartedJob(job_id, 5, math.inf)]
    assert child.renewed_at == 9


def test_what_was_written_stays_when_the_writer_is_gone(shared):
    """That is what the table is for."""
    supervisor, child = shared
    job_id = generate_id()
    child.slots[0].start(job_id, 5)
    child.close()
    assert supervisor.started() == [StartedJob(job_id, 5, math.inf)]


def test_the_file_has_no_name_and_the_right_size():
    """It is gone with its last holder, however that ends."""
    fd = SlotTable.open_file()
    try:
        SlotTable(4, fd).close()
        stat = os.fstat(fd)
        assert (stat.st_size, stat.st_nlink) == (5 * 64, 0)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_closed_table_has_let_go_of_the_memory():
    """A supervisor opens one for each child that it starts."""
    table = SlotTable(1)
    table.slots[0].start(generate_id(), 1)
    table.started()
    table.close()
    assert isinstance(table._memory, mmap.mmap)
    assert table._memory.closed


def test_a_table_that_was_overwritten_can_be_read():
    """Nothing that a job does with a descriptor may end the reader of the table."""
    fd = SlotTable.open_file()
    table = SlotTable(2, fd)
    os.pwrite(fd, b"\xff" * 192, 0)
    assert not table.is_known
    assert table.started() == []
    table.close()
    os.close(fd)


def test_a_table_cannot_be_made_smaller():
    """Reading memory that is gone would kill the process."""
    fd = SlotTable.open_file()
    table = SlotTable(2, fd)
    with pytest.raises(PermissionError):
        os.truncate(fd, 0)
    assert table.started() == []
    table.close()
    os.close(fd)


def test_a_table_of_another_release_is_not_read(shared):
    """What is in it may mean something else: nobody knows what has started."""
    ours, its = shared
    its.slots[0].start(generate_id(), 1.0)
    assert ours.is_known
    its._version[0] = 99

    assert not ours.is_known
    assert ours.started() == []
