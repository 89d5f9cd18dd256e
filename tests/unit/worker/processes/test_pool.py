"""Who serves where, who comes next, and when."""

import dataclasses

import pytest

from flask_taskq.testing import ManualClock
from flask_taskq.worker.processes.pool import ProcessPool
from flask_taskq.worker.processes.pool import ProcessSlot
from flask_taskq.worker.processes.spawn import Child


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def slot(clock):
    return ProcessSlot(clock)


@pytest.fixture
def pool(clock):
    return ProcessPool(2, clock)


def make_child(reload=0):
    """A child, without a process: a pool never looks at it."""
    missing = dataclasses.MISSING
    needed = [field.name for field in dataclasses.fields(Child) if field.default is missing]
    return Child(**dict.fromkeys(needed), reload=reload)


def start(slot, reload=0):
    """Let a child begin where one is due."""
    child = make_child(reload)
    slot.add_starting(child)
    return child


def take_over(slot, clock, reload=0):
    """Let a child begin and become ready."""
    child = start(slot, reload)
    child.ready_at = clock.monotonic()
    slot.take_over(child)
    return child


def pause(slot, clock):
    """In how many milliseconds a child is due."""
    return slot.due_at - clock.monotonic()


# A slot


def test_nobody_is_due_before_somebody_is_called(slot, clock):
    """And then at once, and only one."""
    assert slot.due_at is None
    slot.start_now()
    assert pause(slot, clock) == 0
    start(slot)
    assert slot.due_at is None


def test_a_child_that_had_served_is_replaced_at_once(slot, clock):
    """It died of something that is none of its start's business."""
    child = take_over(slot, clock)
    clock.advance(5_000)
    slot.remove(child)
    assert pause(slot, clock) == 0


def test_pauses_grow_while_children_die_at_the_start(slot, clock):
    """From a second to a minute."""
    pauses = []
    for _ in range(8):
        slot.remove(start(slot))
        pauses.append(pause(slot, clock))
    assert pauses == [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]


def test_the_second_that_dies_early_in_a_row_is_waited_for(slot, clock):
    """The first may have met a bad job."""
    pauses = []
    for _ in range(3):
        slot.remove(take_over(slot, clock))
        pauses.append(pause(slot, clock))
    assert pauses == [0, 1000, 2000]


def test_a_worn_child_serves_until_another_is_ready(slot, clock):
    """It is replaced by it, and has left when it has ended."""
    old = take_over(slot, clock)
    old.wants_replacement = True
    slot.replace(soon=False)
    assert pause(slot, clock) == 0
    new = start(slot)
    assert slot.serving is old
    new.ready_at = clock.monotonic()
    assert slot.take_over(new) is old
    assert (slot.serving, slot.retiring) == (new, [old])
    slot.remove(old)
    assert slot.children == [new]
    assert slot.due_at is None


def test_a_successor_waits_until_the_one_before_is_complete(slot, clock):
    """Long jobs must not let processes pile up."""
    old, new = take_over(slot, clock), take_over(slot, clock)
    new.wants_replacement = True
    slot.replace(soon=False)
    assert slot.due_at is None
    slot.remove(old)
    assert pause(slot, clock) == 0


def test_a_death_does_not_wait_for_who_is_leaving(slot, clock):
    """Nobody would serve meanwhile."""
    take_over(slot, clock)
    new = take_over(slot, clock)
    clock.advance(5_000)
    slot.remove(new)
    assert pause(slot, clock) == 0


def test_children_that_are_worn_soon_are_replaced_with_growing_pauses(slot, clock):
    """They go on meanwhile. One that has lasted begins anew."""
    pauses = []
    for soon in (True, True, True, False, True):
        take_over(slot, clock)
        slot.retiring.clear()
        slot.replace(soon=soon)
        pauses.append(pause(slot, clock))
    assert pauses == [0, 1000, 2000, 0, 0]


def test_a_successor_that_does_not_become_ready_is_tried_again(slot, clock):
    """After a pause, for a child that is worn."""
    old = take_over(slot, clock)
    old.wants_replacement = True
    slot.replace(soon=False)
    slot.remove(start(slot))
    assert slot.serving is old
    assert pause(slot, clock) == 1000


def test_a_child_that_is_not_worn_needs_no_other_successor(slot, clock):
    """The one that ended was an attempt at new code."""
    old = take_over(slot, clock)
    slot.remove(start(slot))
    assert slot.children == [old]
    assert slot.due_at is None


def test_a_child_that_dies_while_it_is_replaced_is_followed_by_its_successor(slot, clock):
    """No further one is due."""
    old = take_over(slot, clock)
    new = start(slot)
    slot.remove(old)
    assert slot.due_at is None
    assert slot.take_over(new) is None
    assert slot.children == [new]


def test_when_both_have_died_another_one_is_due(slot, clock):
    """In whatever order."""
    old = take_over(slot, clock)
    new = start(slot)
    slot.remove(old)
    slot.remove(new)
    assert pause(slot, clock) == 1000


@pytest.mark.parametrize("lasted", [True, False])
def test_an_expelled_child_leaves_before_it_is_relieved(slot, clock, lasted):
    """Another one is due at once, unless it is the second early one in a row."""
    if not lasted:
        slot.remove(take_over(slot, clock))
    old = take_over(slot, clock)
    clock.advance(5_000 if lasted else 4_999)
    slot.retire(old)
    assert (slot.serving, slot.retiring) == (None, [old])
    assert pause(slot, clock) == (0 if lasted else 1000)
    start(slot)
    slot.remove(old)
    assert slot.due_at is None


def test_who_leaves_cannot_be_expelled(slot, clock):
    """Its slot is another's already."""
    old, new = take_over(slot, clock), take_over(slot, clock)
    slot.retire(old)
    assert (slot.serving, slot.retiring) == (new, [old])
    assert slot.due_at is None


def test_nobody_is_due_where_children_end_by_themselves(pool, clock):
    """Until it is called again; one that did not even start is tried again."""
    pool.alone.start_now()
    child = take_over(pool.alone, clock)
    pool.alone.remove(child)
    assert pool.alone.is_empty
    pool.alone.remove(start(pool.alone))
    assert pause(pool.alone, clock) == 1000
    assert not pool.alone.is_empty


# A pool


def take_over_all(pool, clock):
    return [take_over(slot, clock) for slot in pool.slots]


def replace_due(pool, clock):
    """Let a child start and become ready where one is due; the one before has ended."""
    pool.go_on_reloading()
    [slot] = pool.due()
    child = take_over(slot, clock, pool.reload)
    for former in list(slot.retiring):
        slot.remove(former)
    return child


def test_what_is_due_is_what_is_due_now(pool, clock):
    """The others have their time."""
    pool.slots[0].start_now()
    pool.slots[1].start_later(failed=True)
    assert pool.due() == [pool.slots[0]]
    start(pool.slots[0])
    assert pool.due() == []
    assert pool.next_due() == clock.monotonic() + 1000
    clock.advance(1000)
    assert pool.due() == [pool.slots[1]]


def test_a_closed_crew_starts_nobody(pool, clock, caplog):
    """Whatever dies meanwhile, and whatever was asked before."""
    old = take_over_all(pool, clock)
    pool.begin_reload()
    pool.close()
    for child in old:
        pool.slot_of(child).remove(child)
    pool.go_on_reloading()
    pool.slots[0].remove(start(pool.slots[0]))
    assert pool.due() == []
    assert pool.next_due() is None
    assert "starting another process" not in caplog.text


def test_a_reload_replaces_one_after_the_other(pool, clock):
    """The next one is called when the one before has come and its former has gone."""
    old = take_over_all(pool, clock)
    pool.begin_reload()
    pool.go_on_reloading()
    assert pool.due() == [pool.slots[0]]
    new = start(pool.slots[0], pool.reload)
    pool.go_on_reloading()
    assert pool.due() == []
    pool.slots[0].take_over(new)
    pool.go_on_reloading()
    assert pool.due() == []
    pool.slots[0].remove(old[0])
    pool.go_on_reloading()
    assert pool.due() == [pool.slots[1]]


def test_a_reload_does_not_hurry_what_could_not_be_started(pool, clock):
    """The machine may have no room for another process just now."""
    take_over_all(pool, clock)
    pool.begin_reload()
    pool.go_on_reloading()
    pool.slots[0].start_later(failed=True)
    pool.go_on_reloading()
    assert pool.due() == []
    clock.advance(1_000)
    assert pool.due() == [pool.slots[0]]


def test_a_reload_ends_when_all_are_new(pool, clock):
    """A child that dies after it is replaced as usual."""
    take_over_all(pool, clock)
    pool.begin_reload()
    replace_due(pool, clock)
    replace_due(pool, clock)
    pool.go_on_reloading()
    assert pool.due() == []


def test_a_second_reload_replaces_whom_the_first_had_brought(pool, clock):
    """The ones that it had not reached are replaced once."""
    take_over_all(pool, clock)
    pool.begin_reload()
    first = replace_due(pool, clock)
    pool.begin_reload()
    second = replace_due(pool, clock)
    third = replace_due(pool, clock)
    pool.go_on_reloading()
    assert pool.due() == []
    assert first not in pool.children
    assert set(pool.children) == {second, third}


def test_a_child_that_died_during_a_reload_was_replaced_by_it(pool, clock):
    """Its successor has new code."""
    old = take_over_all(pool, clock)
    pool.begin_reload()
    clock.advance(5_000)
    pool.slots[1].remove(old[1])
    take_over(pool.slots[1], clock, pool.reload)
    replace_due(pool, clock)
    pool.go_on_reloading()
    assert pool.due() == []


def test_a_reload_does_not_wait_for_pauses(pool, clock):
    """What they are for may be what the new code mends."""
    take_over(pool.slots[0], clock)
    pool.slots[1].start_later(failed=True)
    pool.begin_reload()
    assert pool.due() == [pool.slots[1]]


def test_a_reload_that_is_given_up_calls_nobody(pool, clock):
    """Until the next one."""
    take_over_all(pool, clock)
    pool.begin_reload()
    pool.go_on_reloading()
    child = start(pool.slots[0], pool.reload)
    assert pool.is_tried_by(child)
    pool.stop_reload()
    pool.slots[0].remove(child)
    pool.go_on_reloading()
    assert pool.due() == []
    pool.begin_reload()
    pool.go_on_reloading()
    assert pool.due() == [pool.slots[0]]


def test_a_reload_is_not_judged_by_who_was_started_before_it(pool, clock):
    """It may have loaded what the second signal was sent to mend."""
    take_over_all(pool, clock)
    pool.begin_reload()
    pool.go_on_reloading()
    child = start(pool.slots[0], pool.reload)
    pool.begin_reload()
    assert not pool.is_tried_by(child)
    pool.slots[0].remove(child)
    pool.go_on_reloading()
    assert pool.due() == [pool.slots[0]]


def test_a_reload_is_not_judged_by_who_starts_where_nobody_serves(pool, clock):
    """There it is tried again and again, as ever."""
    take_over(pool.slots[0], clock)
    pool.slots[1].start_now()
    pool.begin_reload()
    assert not pool.is_tried_by(start(pool.slots[1], pool.reload))
