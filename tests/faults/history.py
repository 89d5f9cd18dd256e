"""What has happened, and whether it may have: the invariants, each a function.

Each returns what is wrong, as sentences; an empty list is a history that keeps it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from flask_taskq import Status
from flask_taskq.jobs.record import JobRecord

from .event_log import Event

#: Settlements that end a job, with the status that they give it.
FINAL = {
    "Succeeded": Status.SUCCEEDED,
    "Failed": Status.FAILED,
    "Cancelled": Status.CANCELLED,
    "Expired": Status.EXPIRED,
}


@dataclass(kw_only=True)
class Sent:
    """A message, and what its sender knows of it.

    :param outcome: ``sent``, ``refused``, or ``unknown``: the answer of the engine was lost,
        or the sender itself.
    :param took: how long sending took, in seconds.
    """

    job: str
    actor: str
    expected: str
    outcome: str = "unknown"
    error: str = "the sender did not live to say"
    took: float = 0.0
    at: float = 0.0


@dataclass(kw_only=True)
class Run:
    """One run of a job. Times are of the monotonic clock, in seconds.

    :param outcome: ``ok`` or the name of the exception; None if it never ended.
    :param settled_as: the settlement that was stored, None if none was.
    """

    job: str
    pid: int
    started: float
    ended: float | None = None
    outcome: str | None = None
    settled: float | None = None
    settled_as: str | None = None


@dataclass(kw_only=True)
class Fault:
    """Something that was done to processes.

    :param kind: ``kill``; ``lose``, which nobody is left to notice; ``stop``, which is told
        to them; ``freeze``.
    :param until: when it was over.
    """

    kind: str
    pids: frozenset[int]
    at: float
    until: float
    point: str = ""

    def hit(self, run: Run) -> bool:
        """Whether it can be the reason for another run after this one."""
        if run.pid not in self.pids or run.settled is not None and run.settled < self.at:
            return False
        # Who is killed, or told to stop, begins little until it strikes, or is heard. How
        # little is for the test to say.
        return self.kind != "freeze" or run.started <= self.until


@dataclass(kw_only=True)
class Recovery:
    """How long a job that lost its process waited for the next one, in seconds.

    :param after: until it ran again.
    :param had_other: whether there was another process that could take it.
    :param crashes: how often that had happened to it, this time included.
    """

    job: str
    after: float
    had_other: bool
    crashes: int
    kind: str


@dataclass
class History:
    """Events, put together.

    :param records: of all jobs, as they are in the end.
    :param earlier: records of jobs that had ended before the end.
    :param depths: how many jobs wait in the end, by queue.
    :param seconds: how long it is from one moment to another, as far as promises count it.
    """

    events: Sequence[Event]
    records: Mapping[str, JobRecord | None] = field(default_factory=dict)
    earlier: Mapping[str, JobRecord] = field(default_factory=dict)
    depths: Mapping[str, int] = field(default_factory=dict)
    seconds: Callable[[float, float], float] = lambda since, until: until - since

    def __post_init__(self) -> None:
        self.sent: dict[str, Sent] = {}
        self.runs: dict[str, list[Run]] = defaultdict(list)
        self.faults: list[Fault] = []
        by_name: dict[str, Run] = {}
        latest: dict[tuple[str, int], Run] = {}
        for one in self.events:
            job, pid, at = one.get("job", ""), one["pid"], one["at"]
            match one["event"]:
                case "intent":
                    self.sent[job] = Sent(
                        job=job, actor=one["actor"], expected=one["expected"], at=at
                    )
                case "sent" | "refused" | "unknown" as outcome:
                    sent = self.sent[job]
                    sent.outcome, sent.error, sent.took = outcome, one["error"], one["took"]
                case "start":
                    run = Run(job=job, pid=pid, started=at)
                    by_name[one["run"]] = latest[job, pid] = run
                    self.runs[job].append(run)
                case "end":
                    run = by_name[one["run"]]
                    run.ended, run.outcome = at, one["outcome"]
                case "settled":
                    settled = latest.get((job, pid))
                    # A job that was released without having run has no run to end.
                    if settled is not None and settled.settled is None:
                        settled.settled, settled.settled_as = at, one["outcome"]
                case "fault":
                    self.faults.append(to_fault(one))
        for runs in self.runs.values():
            runs.sort(key=lambda run: run.started)

    def of(self, event: str) -> list[Event]:
        """The events of a name."""
        return [one for one in self.events if one["event"] == event]

    def count_runs(self, jobs: Iterable[str] | None = None) -> list[int]:
        """How often each of these jobs was started, or of all that were sent."""
        return [len(self.runs.get(job, ())) for job in (self.sent if jobs is None else jobs)]


def to_fault(event: Event) -> Fault:
    at = event["at"]
    return Fault(
        kind=event["kind"],
        pids=frozenset(event["pids"]),
        at=at,
        until=event.get("until", at),
        point=event.get("point", ""),
    )


# --- The invariants ---


def find_lost(history: History) -> list[str]:
    """I1: a job whose ``send()`` returned comes to the end that it has to come to."""
    wrong = []
    for sent in history.sent.values():
        name, record = f"job {sent.job} ({sent.actor})", history.records.get(sent.job)
        runs = history.runs.get(sent.job, [])
        if sent.outcome == "refused" and (record or runs):
            wrong.append(f"{name} is there, though its send() failed: {sent.error}")
        elif record is None:
            if sent.outcome == "sent" or runs:
                wrong.append(f"{name} is lost: it was sent, and has no record")
        elif sent.outcome == "refused":
            continue
        elif not record.status.is_final:
            wrong.append(f"{name} is lost: it never ended, and is {record.status}")
        elif record.status != sent.expected:
            error = record.error.message if record.error else "no error"
            wrong.append(f"{name} ended as {record.status}, not {sent.expected}: {error}")
        elif record.status is Status.SUCCEEDED and not any(run.outcome == "ok" for run in runs):
            wrong.append(f"{name} is lost: it has succeeded, and no run of it came to its end")
    return wrong


def find_doubles(history: History) -> list[str]:
    """I2: a job runs again only because it is to be retried, or a fault hit its run."""
    wrong = []
    for job, runs in history.runs.items():
        if job not in history.sent:
            wrong.append(f"job {job} ran, and nobody has sent it")
        for run, again in zip(runs, runs[1:], strict=False):
            was_hit = any(fault.hit(run) for fault in history.faults)
            if not was_hit and run.settled_as != "Retried":
                wrong.append(
                    f"job {job} is doubled: it ran in process {run.pid} and, though no fault"
                    f" had hit it there, again in process {again.pid}"
                    f" {again.started - run.started:.3f} s later"
                )
    return wrong


def find_changed(history: History) -> list[str]:
    """I3: what has ended has ended: once, and nothing changes it."""
    wrong = []
    ends: dict[str, Event] = {}
    for one in history.events:
        end = ends.get(one.get("job", ""))
        if one["event"] == "start" and end is not None:
            wrong.append(f"job {one['job']} ran again after it had ended ({end['outcome']})")
        elif one["event"] == "settled":
            if end is not None:
                wrong.append(
                    f"job {one['job']} is doubled: it was settled as {end['outcome']} by"
                    f" process {end['pid']} and as {one['outcome']} by process {one['pid']}"
                )
            if one["outcome"] in FINAL:
                ends[one["job"]] = one
    for job, end in ends.items():
        record = history.records.get(job)
        # A retry or a release of a job whose cancelling was asked for cancels it.
        if record is not None and record.status is not FINAL[end["outcome"]]:
            wrong.append(f"job {job} was settled as {end['outcome']} and is {record.status}")
    for job, before in history.earlier.items():
        if history.records.get(job) != before:
            wrong.append(f"the record of job {job} changed after the job had ended")
    return wrong


def find_late(history: History, limit: float, kind: str = "kill") -> list[str]:
    """I4: a job whose process is gone runs again in time: 99 of 100, and each in twice that.

    :param limit: in seconds.
    """
    found = [one for one in recoveries(history, kind) if one.had_other and one.crashes == 1]
    wrong = [
        f"job {one.job} ran again only {one.after:.3f} s after its process was lost"
        for one in found
        if one.after > 2 * limit
    ]
    worst = percentile([one.after for one in found], 99)
    if worst > limit:
        wrong.append(f"jobs of lost processes ran again after {worst:.3f} s (p99), not {limit}")
    return wrong


def find_residue(history: History) -> list[str]:
    """I5: in the end nothing waits and nobody holds anything."""
    wrong = [f"{count} jobs wait in queue {name}" for name, count in history.depths.items()]
    for job, record in history.records.items():
        if record is not None and record.status is Status.RUNNING:
            wrong.append(f"job {job} is still held by worker {record.worker}")
    return wrong


def find_blamed(history: History, threads: int) -> list[str]:
    """Only what was running when its process was killed is charged with a crash.

    :param threads: how many jobs a process runs at the same time.
    """
    wrong = []
    kills = [fault for fault in history.faults if fault.kind == "kill"]
    claims = defaultdict(list)
    for one in history.of("claimed"):
        claims[one["job"]].append(one)
    total = 0
    for job, record in history.records.items():
        crashes = record.crashes if record is not None else 0
        total += crashes
        by = [kill for kill in kills if any(one["pid"] in kill.pids for one in claims[job])]
        if crashes > len(by):
            wrong.append(f"job {job} is charged with {crashes} crashes, and {len(by)} hit it")
    if total > threads * len(kills):
        wrong.append(f"{len(kills)} kills of {threads} threads are charged to {total} jobs")
    return wrong


def find_violations(
    history: History, *, threads: int, recovery: float, lost: float
) -> list[str]:
    """All of them.

    :param recovery: in how many seconds jobs of a killed process run again.
    :param lost: and those of a machine that is lost, or stands still.
    """
    return [
        *find_lost(history),
        *find_doubles(history),
        *find_changed(history),
        *find_late(history, recovery),
        *find_late(history, lost, "lose"),
        *find_late(history, lost, "freeze"),
        *find_residue(history),
        *find_blamed(history, threads),
    ]


# --- Measures ---


def recoveries(history: History, kind: str = "kill") -> list[Recovery]:
    """The jobs that ran again after the loss of a process, and when.

    :param kind: of the faults.
    """
    found = []
    for runs in history.runs.values():
        crashes = 0
        for run, again in zip(runs, runs[1:], strict=False):
            fault = next((f for f in history.faults if f.kind == kind and f.hit(run)), None)
            if fault is not None:
                crashes += 1
                found.append(
                    Recovery(
                        job=run.job,
                        after=history.seconds(fault.at, again.started),
                        had_other=has_other(history, fault, again.started),
                        crashes=crashes,
                        kind=kind,
                    )
                )
    return found


def has_other(history: History, fault: Fault, until: float) -> bool:
    """Whether a process was ready and unhurt until then, to run what this one lost."""
    ready = {
        one["pid"]
        for one in history.of("ready")
        if one["at"] < fault.at and not one["isolated"]
    }
    for other in history.faults:
        if other.at < until:
            ready -= other.pids
    return bool(ready)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else 0.0


def throughput(history: History, since: float, until: float) -> float:
    """Runs that ended in this time, by second."""
    ends = [one for one in history.of("end") if since <= one["at"] < until]
    return len(ends) / (until - since)
