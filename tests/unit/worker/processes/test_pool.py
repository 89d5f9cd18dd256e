"""Who serves where, who comes next, and when."""

import dataclasses

import pytest

from flask_taskq.testing import ManualClock
from flask_taskq.worker.processes.pool import Crew
from flask_taskq.worker.processes.pool import Place
from flask_taskq.worker.processes.spawn import Child


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def place(clock):
    return Place(clock)


@pytest.fixture
def crew(clock):
    return Crew(2, clock)


def make_child(reload=0):
    """A child, without a process: a crew never looks at it."""
    missing = dataclasses.MISSING
    needed = [field.name for field in dataclasses.fields(Child) if field.default is missing]
    return Child(**dict.fromkeys(needed), reload=reload)


def start(place, reload=0):
    """Let a child begin where one is due."""
    child = make_child(reload)
    place.enter(child)
    return child


def settle(place, clock, reload=0):
    """Let a child begin and become ready."""
    child = start(place, reload)
    child.ready_at = clock.monotonic()
    place.settle(child)
    return child


def pause(place, clock):
    """In how many milliseconds a child is due."""
    return place.due_at - clock.monotonic()


# A place


def test_nobody_is_due_before_somebody_is_called(place, clock):
    """And then at once, and only one."""
    assert place.due_at is None
    place.call()
    assert pause(place, clock) == 0
    start(place)
    assert place.due_at is None


def test_a_child_that_had_served_is_replaced_at_once(place, clock):
    """It died of something that is none of its start's business."""
    child = settle(place, clock)
    clock.advance(5_000)
    place.bury(child)
    assert pause(place, clock) == 0


def test_pauses_grow_while_children_die_at_the_start(place, clock):
    """From a second to a minute."""
    pauses = []
    for _ in range(8):
        place.bury(start(place))
        pauses.append(pause(place, clock))
    assert pauses == [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]


def test_the_second_that_dies_early_in_a_row_is_waited_for(place, clock):
    """The first may have met a bad job."""
    pauses = []
    for _ in range(3):
        place.bury(settle(place, clock))
        pauses.append(pause(place, clock))
    assert pauses == [0, 1000, 2000]


def test_a_worn_child_serves_until_another_is_ready(place, clock):
    """It is relieved by it, and has left when it has ended."""
    old = settle(place, clock)
    old.is_worn = True
    place.relieve(soon=False)
    assert pause(place, clock) == 0
    new = start(place)
    assert place.serving is old
    new.ready_at = clock.monotonic()
    assert place.settle(new) is old
    assert (place.serving, place.leaving) == (new, [old])
    place.bury(old)
    assert place.children == [new]
    assert place.due_at is None


def test_a_successor_waits_until_the_one_before_is_complete(place, clock):
    """Long jobs must not let processes pile up."""
    old, new = settle(place, clock), settle(place, clock)
    new.is_worn = True
    place.relieve(soon=False)
    assert place.due_at is None
    place.bury(old)
    assert pause(place, clock) == 0


def test_a_death_does_not_wait_for_who_is_leaving(place, clock):
    """Nobody would serve meanwhile."""
    settle(place, clock)
    new = settle(place, clock)
    clock.advance(5_000)
    place.bury(new)
    assert pause(place, clock) == 0


def test_children_that_are_worn_soon_are_replaced_with_growing_pauses(place, clock):
    """They go on meanwhile. One that has lasted begins anew."""
    pauses = []
    for soon in (True, True, True, False, True):
        settle(place, clock)
        place.leaving.clear()
        place.relieve(soon=soon)
        pauses.append(pause(place, clock))
    assert pauses == [0, 1000, 2000, 0, 0]


def test_a_successor_that_does_not_become_ready_is_tried_again(place, clock):
    """After a pause, for a child that is worn."""
    old = settle(place, clock)
    old.is_worn = True
    place.relieve(soon=False)
    place.bury(start(place))
    assert place.serving is old
    assert pause(place, clock) == 1000


def test_a_child_that_is_not_worn_needs_no_other_successor(place, clock):
    """The one that ended was an attempt at new code."""
    old = settle(place, clock)
    place.bury(start(place))
    assert place.children == [old]
    assert place.due_at is None


def test_whoever_dies_while_it_is_relieved_is_followed_by_its_successor(place, clock):
    """No further one is due."""
    old = settle(place, clock)
    new = start(place)
    place.bury(old)
    assert place.due_at is None
    assert place.settle(new) is None
    assert place.children == [new]


def test_when_both_have_died_another_one_is_due(place, clock):
    """In whatever order."""
    old = settle(place, clock)
    new = start(place)
    place.bury(old)
    place.bury(new)
    assert pause(place, clock) == 1000


@pytest.mark.parametrize("lasted", [True, False])
def test_an_expelled_child_leaves_before_it_is_relieved(place, clock, lasted):
    """Another one is due at once, unless it is the second early one in a row."""
    if not lasted:
        place.bury(settle(place, clock))
    old = settle(place, clock)
    clock.advance(5_000 if lasted else 4_999)
    place.expel(old)
    assert (place.serving, place.leaving) == (None, [old])
    assert pause(place, clock) == (0 if lasted else 1000)
    start(place)
    place.bury(old)
    assert place.due_at is None


def test_who_leaves_cannot_be_expelled(place, clock):
    """Its place is another's already."""
    old, new = settle(place, clock), settle(place, clock)
    place.expel(old)
    assert (place.serving, place.leaving) == (new, [old])
    assert place.due_at is None


def test_nobody_is_due_where_children_end_by_themselves(crew, clock):
    """Until it is called again; one that did not even start is tried again."""
    crew.alone.call()
    child = settle(crew.alone, clock)
    crew.alone.bury(child)
    assert crew.alone.is_empty
    crew.alone.bury(start(crew.alone))
    assert pause(crew.alone, clock) == 1000
    assert not crew.alone.is_empty


# A crew


def settle_all(crew, clock):
    return [settle(place, clock) for place in crew.places]


def relieve_due(crew, clock):
    """Let a child begin and become ready where one is due; whom it relieves has ended."""
    crew.go_on_reloading()
    [place] = crew.due()
    child = settle(place, clock, crew.reload)
    for former in list(place.leaving):
        place.bury(former)
    return child


def test_what_is_due_is_what_is_due_now(crew, clock):
    """The others have their time."""
    crew.places[0].call()
    crew.places[1].call_later(failed=True)
    assert crew.due() == [crew.places[0]]
    start(crew.places[0])
    assert crew.due() == []
    assert crew.next_due() == clock.monotonic() + 1000
    clock.advance(1000)
    assert crew.due() == [crew.places[1]]


def test_a_closed_crew_starts_nobody(crew, clock, caplog):
    """Whoever dies in the meantime, and whatever was asked before."""
    old = settle_all(crew, clock)
    crew.begin_reload()
    crew.close()
    for child in old:
        crew.place_of(child).bury(child)
    crew.go_on_reloading()
    crew.places[0].bury(start(crew.places[0]))
    assert crew.due() == []
    assert crew.next_due() is None
    assert "starting another process" not in caplog.text


def test_a_reload_replaces_one_after_the_other(crew, clock):
    """The next one is called when the one before has come and its former has gone."""
    old = settle_all(crew, clock)
    crew.begin_reload()
    crew.go_on_reloading()
    assert crew.due() == [crew.places[0]]
    new = start(crew.places[0], crew.reload)
    crew.go_on_reloading()
    assert crew.due() == []
    crew.places[0].settle(new)
    crew.go_on_reloading()
    assert crew.due() == []
    crew.places[0].bury(old[0])
    crew.go_on_reloading()
    assert crew.due() == [crew.places[1]]


def test_a_reload_does_not_hurry_what_could_not_be_started(crew, clock):
    """The machine may have no room for another process just now."""
    settle_all(crew, clock)
    crew.begin_reload()
    crew.go_on_reloading()
    crew.places[0].call_later(failed=True)
    crew.go_on_reloading()
    assert crew.due() == []
    clock.advance(1_000)
    assert crew.due() == [crew.places[0]]


def test_a_reload_ends_when_all_are_new(crew, clock):
    """Whoever dies after it is replaced as ever."""
    settle_all(crew, clock)
    crew.begin_reload()
    relieve_due(crew, clock)
    relieve_due(crew, clock)
    crew.go_on_reloading()
    assert crew.due() == []


def test_a_second_reload_replaces_whom_the_first_had_brought(crew, clock):
    """And those whom it had not come to yet once only."""
    settle_all(crew, clock)
    crew.begin_reload()
    first = relieve_due(crew, clock)
    crew.begin_reload()
    second = relieve_due(crew, clock)
    third = relieve_due(crew, clock)
    crew.go_on_reloading()
    assert crew.due() == []
    assert first not in crew.children
    assert set(crew.children) == {second, third}


def test_whoever_died_during_a_reload_has_been_replaced_by_it(crew, clock):
    """Its successor has new code."""
    old = settle_all(crew, clock)
    crew.begin_reload()
    clock.advance(5_000)
    crew.places[1].bury(old[1])
    settle(crew.places[1], clock, crew.reload)
    relieve_due(crew, clock)
    crew.go_on_reloading()
    assert crew.due() == []


def test_a_reload_does_not_wait_for_pauses(crew, clock):
    """What they are for may be what the new code mends."""
    settle(crew.places[0], clock)
    crew.places[1].call_later(failed=True)
    crew.begin_reload()
    assert crew.due() == [crew.places[1]]


def test_a_reload_that_is_given_up_calls_nobody(crew, clock):
    """Until the next one."""
    settle_all(crew, clock)
    crew.begin_reload()
    crew.go_on_reloading()
    child = start(crew.places[0], crew.reload)
    assert crew.is_tried_by(child)
    crew.give_up_reload()
    crew.places[0].bury(child)
    crew.go_on_reloading()
    assert crew.due() == []
    crew.begin_reload()
    crew.go_on_reloading()
    assert crew.due() == [crew.places[0]]


def test_a_reload_is_not_judged_by_who_was_started_before_it(crew, clock):
    """It may have loaded what the second signal was sent to mend."""
    settle_all(crew, clock)
    crew.begin_reload()
    crew.go_on_reloading()
    child = start(crew.places[0], crew.reload)
    crew.begin_reload()
    assert not crew.is_tried_by(child)
    crew.places[0].bury(child)
    crew.go_on_reloading()
    assert crew.due() == [crew.places[0]]


def test_a_reload_is_not_judged_by_who_starts_where_nobody_serves(crew, clock):
    """There it is tried again and again, as ever."""
    settle(crew.places[0], clock)
    crew.places[1].call()
    crew.begin_reload()
    assert not crew.is_tried_by(start(crew.places[1], crew.reload))
