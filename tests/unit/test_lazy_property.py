"""What is found out when it is first asked for."""

import threading

from flask_taskq.lazy_property import lazy_property

NET = 10


class Asking:
    def __init__(self, find):
        self.find = find

    @lazy_property
    def value(self):
        return self.find()


def test_it_is_found_out_once():
    """And is an attribute from then on."""
    found = []
    one = Asking(lambda: found.append(1) or len(found))
    assert (one.value, one.value, found) == (1, 1, [1])


def test_nobody_waits_for_another_who_finds_it_out():
    """A process that was forked meanwhile would wait for ever."""
    goes_on, is_in = threading.Event(), threading.Event()

    def wait():
        is_in.set()
        return goes_on.wait(NET)

    slow = Asking(wait)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert is_in.wait(NET)
    done = threading.Event()
    other = threading.Thread(target=lambda: (Asking(int).value, done.set()))
    other.start()
    try:
        assert done.wait(NET / 2)
    finally:
        goes_on.set()
        thread.join()
        other.join()
