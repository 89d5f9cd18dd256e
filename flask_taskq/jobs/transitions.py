"""The table of transitions: every change of a job's status, with its guard and its effects.

There are no others. An engine makes each in one atomic step, as its row says;
:mod:`~flask_taskq.jobs.lifecycle` says which row holds for what has happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from typing import NamedTuple

from .record import Lane
from .record import Status


class Effects(NamedTuple):
    """What a transition does to the fields of a record.

    Besides these, each transition sets ``status`` and ``updated_at``, and adds 1 to
    ``version``. One to a final status also sets ``finished_at`` and ``expires_at``.

    :param sets: the fields that get the value which the change brings. ``started_at`` keeps
        its own where the change has none.
    :param resets: the fields that become what they are in the record of a new job.
    :param attempt: what is added to the number of the run: 1 for one that begins, -1 for one
        that is not charged.
    :param counts_release: whether the job was released before it ran, which is
        counted, with the time of the first such release.
    :param lane: the lane that the job is moved to; None leaves it in its own.
    :param takes_place: whether it goes to the end of its queue. Otherwise it keeps its place.
    """

    sets: tuple[str, ...] = ()
    resets: tuple[str, ...] = ()
    attempt: int = 0
    counts_release: bool = False
    lane: Lane | None = None
    takes_place: bool = False


# Without an equality of its own, each is a key that costs nothing to look up.
@dataclass(frozen=True, eq=False, slots=True)
class Transition:
    """One row of the table.

    :param name: what happens.
    :param source: the status before, None for a job that does not exist yet.
    :param target: the status after, None for a job that does not exist any more.
    :param by: who may do it.
    :param guard: what must hold besides the source; otherwise nothing is changed.
    :param effects: on the record.
    """

    name: str
    source: Status | None
    target: Status | None
    by: str
    guard: str
    effects: Effects = Effects()


_TOKEN: Final = "the delivery's token is the current one"
_OVER: Final = "the holder's process died or its lease ran out"
_ASKED: Final = "cancelling was asked for and the job would run again"
_NO_KEY: Final = "no other job that is not over holds its unique key"

_RELEASES: Final = ("releases", "released_since")
_CHARGED: Final = ("error", "attempts", "started_at")
_COUNTERS: Final = ("crashes", "suspects")
_ENDED: Final = ("scheduled_for", "status_reason", *_RELEASES, "lane")

_QUEUED = Status.QUEUED
_SCHEDULED = Status.SCHEDULED
_RUNNING = Status.RUNNING

ENQUEUE: Final = Transition(
    "enqueue", None, _QUEUED, "sender", f"the id is new, the job is due, {_NO_KEY}"
)
ENQUEUE_LATER: Final = Transition(
    "enqueue", None, _SCHEDULED, "sender", f"the id is new, not yet due, {_NO_KEY}"
)
PROMOTE: Final = Transition(
    "promote",
    _SCHEDULED,
    _QUEUED,
    "worker",
    "the job is due",
    Effects(resets=("scheduled_for",), takes_place=True),
)
CLAIM: Final = Transition(
    "claim",
    _QUEUED,
    _RUNNING,
    "worker",
    "its lease is alive and the queue is not paused",
    Effects(sets=("worker", "started_at"), resets=("status_reason", "progress"), attempt=1),
)

SUCCEED: Final = Transition(
    "succeed",
    _RUNNING,
    Status.SUCCEEDED,
    "holder",
    _TOKEN,
    Effects(sets=("result", "started_at"), resets=("error", *_ENDED)),
)
RETRY: Final = Transition(
    "retry",
    _RUNNING,
    _SCHEDULED,
    "holder",
    _TOKEN,
    Effects(sets=("scheduled_for", *_CHARGED), resets=("worker", *_RELEASES)),
)
FAIL: Final = Transition(
    "fail",
    _RUNNING,
    Status.FAILED,
    "holder",
    _TOKEN,
    Effects(sets=_CHARGED, resets=_ENDED),
)
GIVE_UP: Final = Transition(
    "give up",
    _RUNNING,
    Status.CANCELLED,
    "holder",
    _TOKEN,
    Effects(sets=_CHARGED, resets=_ENDED),
)
EXPIRE: Final = Transition(
    "expire",
    _RUNNING,
    Status.EXPIRED,
    "holder",
    _TOKEN,
    Effects(sets=("error",), resets=_ENDED, attempt=-1),
)
RELEASE: Final = Transition(
    "release",
    _RUNNING,
    _QUEUED,
    "holder",
    _TOKEN,
    Effects(sets=("status_reason",), resets=("worker", "scheduled_for"), attempt=-1),
)
RELEASE_LATER: Final = Transition(
    "release later",
    _RUNNING,
    _SCHEDULED,
    "holder",
    f"{_TOKEN}, the run had not begun",
    Effects(
        sets=("scheduled_for", "status_reason"),
        resets=("worker",),
        attempt=-1,
        counts_release=True,
    ),
)
SNOOZE: Final = Transition(
    "snooze",
    _RUNNING,
    _SCHEDULED,
    "holder",
    f"{_TOKEN}, the run had begun",
    Effects(sets=("scheduled_for", "status_reason"), resets=("worker", *_RELEASES), attempt=-1),
)
#: In place of a retry.
STOP: Final = Transition(
    "stop",
    _RUNNING,
    Status.CANCELLED,
    "holder",
    f"{_ASKED}, {_TOKEN}",
    Effects(sets=_CHARGED, resets=_ENDED),
)
#: In place of a release or a snooze.
STOP_UNCHARGED: Final = Transition(
    "stop uncharged",
    _RUNNING,
    Status.CANCELLED,
    "holder",
    f"{_ASKED}, {_TOKEN}",
    Effects(resets=_ENDED, attempt=-1),
)

RECLAIM: Final = Transition(
    "reclaim",
    _RUNNING,
    _QUEUED,
    "supervisor",
    _OVER,
    Effects(sets=("status_reason", *_COUNTERS), resets=("worker", "scheduled_for"), attempt=-1),
)
ISOLATE: Final = Transition(
    "isolate",
    _RUNNING,
    _SCHEDULED,
    "supervisor",
    _OVER,
    Effects(
        sets=("scheduled_for", "status_reason", *_COUNTERS),
        resets=("worker",),
        attempt=-1,
        lane=Lane.ALONE,
    ),
)
FAIL_LOST: Final = Transition(
    "fail lost",
    _RUNNING,
    Status.FAILED,
    "supervisor",
    _OVER,
    Effects(sets=("error", *_COUNTERS), resets=("worker", *_ENDED), attempt=-1),
)
#: In place of reclaiming it.
STOP_LOST: Final = Transition(
    "stop lost",
    _RUNNING,
    Status.CANCELLED,
    "supervisor",
    f"{_ASKED}, {_OVER}",
    Effects(sets=_COUNTERS, resets=("worker", *_ENDED), attempt=-1),
)

_CANCELLED: Final = Effects(sets=("cancel_requested",), resets=_ENDED)
CANCEL: Final = {
    source: Transition("cancel", source, Status.CANCELLED, "anyone", "none", _CANCELLED)
    for source in (_SCHEDULED, _QUEUED)
}

#: Of the record as it was, its error, its attempts and its log are kept.
_ANEW: Final = Effects(
    resets=(
        *_ENDED,
        *_COUNTERS,
        "attempt",
        "cancel_requested",
        "expires_at",
        "finished_at",
        "progress",
        "started_at",
        "worker",
    ),
    takes_place=True,
)
REQUEUE: Final = {
    source: Transition("requeue", source, _QUEUED, "operator", _NO_KEY, _ANEW)
    for source in (Status.FAILED, Status.CANCELLED)
}

DELETE: Final = {
    source: Transition("delete", source, None, "operator", "none")
    for source in Status
    if source not in (Status.RUNNING, Status.BLOCKED)
}

TRANSITIONS: Final = (
    ENQUEUE,
    ENQUEUE_LATER,
    PROMOTE,
    CLAIM,
    SUCCEED,
    RETRY,
    FAIL,
    GIVE_UP,
    EXPIRE,
    RELEASE,
    RELEASE_LATER,
    SNOOZE,
    STOP,
    STOP_UNCHARGED,
    RECLAIM,
    ISOLATE,
    FAIL_LOST,
    STOP_LOST,
    *CANCEL.values(),
    *REQUEUE.values(),
    *DELETE.values(),
)
