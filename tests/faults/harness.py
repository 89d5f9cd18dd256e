"""A real web server, real workers, load, and faults; and the history that they leave."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.jobs.record import JobRecord
from tests.processes.harness import is_stopped
from tests.processes.harness import processes_of_session
from tests.processes.harness import WorkerCommand
from tests.support.machine_time import machine_seconds
from tests.support.namespaces import in_another_namespace
from tests.support.namespaces import TIMES

from .event_log import append
from .event_log import Event
from .event_log import Follower
from .event_log import NET
from .history import find_violations
from .history import History
from .history import percentile
from .history import recoveries

ROOT = Path(__file__).parents[2]
APP = "tests.faults.app:create_app"

#: What the workers of these tests have, in seconds.
GRACE = 5.0

#: A lease that is short, so that a lost machine is noticed soon. Where it is not the subject
#: workers have the usual one: a machine that stands still for a moment takes nobody's jobs.
LEASE = 1.5

#: How soon jobs run again whose process was killed, and whose machine was lost.
RECOVERY = 1.0
LOST = LEASE + 5.0

#: How long nothing happens, at the end, before jobs that are left are taken for lost. A slow
#: machine needs long for many jobs, and never this long for the next one.
SILENCE = LEASE + 10.0


@dataclass(frozen=True)
class Scale:
    """How much of everything: for the gate, or for ``make faults``.

    :param kills: how many processes are killed at random moments.
    :param pace: how much longer than half a second it is from one kill to the next. A
        process that dies in its first seconds is replaced later and later.
    :param jobs: how many are sent where their number is what matters.
    :param seconds: how long it goes on where the time is.
    :param judges_rates: whether the machine is calm enough to compare what was done at one
        time with what was done at another.
    """

    kills: int
    pace: float
    jobs: int
    seconds: float
    judges_rates: bool


Job = tuple[str, Sequence[Any], str]


@dataclass(frozen=True)
class Storage:
    """An engine under test.

    :param url: its ``TASKQ_BROKER_URL``, of a new and empty place.
    :param verify: raises an error if what is stored is damaged.
    :param at_rest: a context in which no process is in the midst of a write. A process that
        is frozen in one may hold up all the others, where the storage is in their hands.
    """

    url: str
    verify: Callable[[], None]
    at_rest: Callable[[], AbstractContextManager[object]] = nullcontext


def job(actor: str, *arguments: Any, expected: str = "succeeded") -> Job:
    """A message for the web server to send, and how it has to end."""
    return (actor, arguments, expected)


class Web:
    """The app under Gunicorn, in a process group of its own."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            self._port = listener.getsockname()[1]
            command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}"]
            command += ["--worker-class", "gthread", "--log-level", "error", *arguments]
            self.process = subprocess.Popen(
                [*command, f"{APP}()"],
                env=env,
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def request(self, method: str, path: str, body: object = None) -> Any:
        """What the app answers, as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=NET)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            assert response.status < 400, text
            return json.loads(text)
        finally:
            connection.close()

    def send(self, *jobs: Job) -> list[str]:
        """Send jobs with one request, in one step, and return their ids."""
        return list(self.request("POST", "/send", jobs))

    def close(self) -> None:
        """End it without a farewell: nobody asks it anything any more."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(NET)


class Load(threading.Thread):
    """Sends jobs at a steady rate until it is told to stop.

    :param make: the jobs of one request.
    :param interval: seconds from one request to the next.
    """

    def __init__(self, web: Web, make: Callable[[], Sequence[Job]], interval: float) -> None:
        super().__init__(daemon=True)
        self._web = web
        self._make = make
        self._interval = interval
        self._enough = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        at = time.monotonic()
        try:
            while not self._enough.is_set():
                self._web.send(*self._make())
                at += self._interval
                self._enough.wait(max(0.0, at - time.monotonic()))
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join(NET)
        if self.error is not None:
            raise self.error


class Rig:
    """One history in the making.

    :param folder: with a short name; sockets are made in it.
    :param storage: the engine under test.
    :param seed: of all that is left to chance.
    """

    def __init__(self, folder: Path, storage: Storage, seed: int) -> None:
        self.folder = folder
        self.storage = storage
        self.random = random.Random(seed)
        self.follower = Follower(folder)
        self.threads = 4
        self.figures: list[str] = []
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FAULTS_FOLDER": str(folder),
            "FLASK_TASKQ_BROKER_URL": storage.url,
            "FLASK_TASKQ_GRACE": str(int(GRACE * 1000)),
        }
        self.engine = make_engine(Settings(broker_url=storage.url), Clock())
        self.earlier: dict[str, JobRecord] = {}
        self._workers: list[WorkerCommand] = []
        self._webs: list[Web] = []

    def shorten_leases(self) -> None:
        """Of the workers that are yet to be started."""
        self.env["FLASK_TASKQ_LEASE"] = str(int(LEASE * 1000))

    # Processes

    def start_web(self, *arguments: str, **env: str) -> Web:
        """Start a web server with options of Gunicorn."""
        self._webs.append(Web({**self.env, **env}, *(arguments or ("--threads", "4"))))
        return self._webs[-1]

    def start_worker(
        self, processes: int = 2, *arguments: str, elsewhere: bool = False, **env: str
    ) -> WorkerCommand:
        """Start a worker, and wait until all of its processes fetch.

        :param elsewhere: as on another machine: nobody can see that it is dead.
        """
        command = ["-p", str(processes), "-t", str(self.threads), "--log-level", "warning"]
        count = len(self.processes())
        prefix = in_another_namespace(TIMES) if elsewhere else ()
        worker = WorkerCommand(
            {**self.env, **env}, *command, *arguments, app=APP, prefix=prefix
        )
        self._workers.append(worker)
        self.follower.wait_for("ready", count + processes, where=is_shared)
        return worker

    def processes(self, worker: WorkerCommand | None = None) -> list[int]:
        """The processes that have fetched jobs, of all workers or of one."""
        ready = [
            e["pid"] for e in self.follower.all() if e["event"] == "ready" and is_shared(e)
        ]
        if worker is None:
            return ready
        alive = processes_of_session(worker.process.pid)
        return [pid for pid in ready if pid in alive]

    def weigh(self) -> dict[int, tuple[int, int]]:
        """How many files and how many threads each process has open now."""
        leaders = [one.process.pid for one in (*self._workers, *self._webs)]
        weights = {}
        for pid in itertools.chain.from_iterable(map(processes_of_session, leaders)):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                weights[pid] = (
                    len(os.listdir(f"/proc/{pid}/fd")),
                    len(os.listdir(f"/proc/{pid}/task")),
                )
        return weights

    def find_heavier(self, before: dict[int, tuple[int, int]], faults: int) -> list[str]:
        """I7: what faults made a process open it closes again.

        What is open while a process works comes and goes. What is opened once, when it is
        first needed, stays; what each fault leaves behind is as much as there were faults.

        :param faults: how many there were since.
        """
        until = time.monotonic() + NET
        while True:
            now = self.weigh()
            heavier = [
                f"process {pid} has {now[pid]} files and threads, and had {was}"
                for pid, was in before.items()
                if pid in now and max(now[pid][0] - was[0], now[pid][1] - was[1]) >= faults
            ]
            if not heavier or time.monotonic() > until:
                return heavier
            self.let_pass(0.01)

    # Faults

    def note_fault(self, kind: str, pids: Sequence[int], *, until: float | None = None) -> None:
        """Write down what is about to be done to processes."""
        more = {} if until is None else {"until": until}
        append(self.folder, "fault", kind=kind, pids=list(pids), **more)

    def kill(self, pid: int) -> None:
        """Kill a process that runs jobs."""
        self.note_fault("kill", [pid])
        os.kill(pid, signal.SIGKILL)

    def arm(self, point: str) -> None:
        """Let the first process that comes to this point die there, or up to a millisecond
        later, where the point is a call of the engine."""
        unready = self.folder / f"{point}.new"
        unready.write_text(str(self.random.random() / 1000))
        unready.rename(self.folder / point)

    def lose(self, worker: WorkerCommand) -> None:
        """Kill every process of a worker at once, as the loss of a machine does."""
        self.note_fault("lose", processes_of_session(worker.process.pid))
        worker.signal_all(signal.SIGKILL)

    def stop(self, worker: WorkerCommand, number: int = signal.SIGTERM) -> float:
        """Tell a worker to end.

        :return: when, at the earliest, on the monotonic clock, in seconds.
        """
        self.note_fault("stop", processes_of_session(worker.process.pid))
        told_at = time.monotonic()
        worker.signal(number)
        return told_at

    def freeze(self, worker: WorkerCommand, seconds: float) -> None:
        """Stop every process of a worker, as of a machine that stands still.

        :param seconds: how long that is going to be; :meth:`thaw` ends it.
        """
        pids = processes_of_session(worker.process.pid)
        with self.storage.at_rest():
            self.note_fault("freeze", pids, until=time.monotonic() + seconds)
            worker.signal_all(signal.SIGSTOP)
            while not all(map(is_stopped, pids)):
                pass

    def thaw(self, worker: WorkerCommand) -> None:
        """Let a frozen worker go on."""
        worker.signal_all(signal.SIGCONT)

    # Events

    def wait_for(
        self, event: str, count: int = 1, *, jobs: Sequence[str] | None = None
    ) -> list[Event]:
        """Wait until so many events of a name have come, of these jobs."""
        wanted = None if jobs is None else set(jobs)
        return self.follower.wait_for(
            event, count, where=lambda one: wanted is None or one.get("job") in wanted
        )

    def wait_for_work(self, pid: int) -> None:
        """Wait until a process has ended as many jobs from now on as it has threads."""
        since = time.monotonic()
        self.follower.wait_for(
            "end", self.threads, where=lambda one: one["pid"] == pid and one["at"] > since
        )

    def wait_until_done(self, jobs: Sequence[str]) -> None:
        """Wait until these jobs have ended."""
        for job_id in jobs:
            record = self.engine.jobs.wait(job_id, int(NET * 1000))
            assert record is not None and record.status.is_final, record

    def let_pass(self, seconds: float) -> None:
        """Let time go by, where the time itself is what the test is about."""
        threading.Event().wait(seconds)

    # The end

    def keep_record(self, job_id: str) -> JobRecord:
        """The record of a job that has ended. The checker finds out if it ever changes."""
        record = self.engine.jobs.wait(job_id, int(NET * 1000))
        assert record is not None and record.status.is_final, record
        self.earlier[job_id] = record
        return record

    def finish(self) -> History:
        """Wait until every job has ended, end the workers, and put the history together."""
        self._drain()
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.signal(signal.SIGTERM)
                assert worker.wait() == 0, worker.log
            left = processes_of_session(worker.process.pid)
            assert left == [], f"processes {left} outlive their worker"
        events = self.follower.all()
        jobs = {one["job"] for one in events if "job" in one}
        self.storage.verify()
        records = {job_id: self.engine.jobs.get(job_id) for job_id in jobs}
        depths = self.engine.queues.depths()
        return History(events, records, self.earlier, depths, machine_seconds)

    def check(self) -> History:
        """The history, which has to keep every invariant."""
        history = self.finish()
        self.note_figures(history)
        wrong = find_violations(history, threads=self.threads, recovery=RECOVERY, lost=LOST)
        assert not wrong, "\n".join(wrong)
        return history

    def _drain(self) -> None:
        """Wait for all jobs, as long as something happens."""
        for one in self.follower.all():
            if one["event"] in ("sent", "unknown"):
                while not self._has_ended(one["job"]) and (left := self._silence_left()) > 0:
                    self.engine.jobs.wait(one["job"], int(left * 1000))

    def _has_ended(self, job_id: str) -> bool:
        record = self.engine.jobs.get(job_id)
        return record is None or record.status.is_final

    def _silence_left(self) -> float:
        last = max(one.get("until", one["at"]) for one in self.follower.all())
        return last + SILENCE - time.monotonic()

    def note_figures(self, history: History) -> None:
        """What the run has shown, in one line."""
        runs = history.count_runs()
        line = f"{len(runs)} jobs, {len(history.faults)} faults, {sum(runs) - len(runs)} reruns"
        for kind in ("kill", "lose"):
            found = [r.after for r in recoveries(history, kind) if r.had_other]
            if found:
                line += f", after {kind} p99 {percentile(found, 99):.3f} s of {len(found)}"
        self.figures.insert(0, line)

    def close(self) -> None:
        """End whatever is left."""
        for worker in self._workers:
            worker.close()
        for web in self._webs:
            web.close()
        self.engine.close()
        self.follower.close()


def is_shared(event: Event) -> bool:
    """Whether a process that is ready runs jobs of everybody, and not one alone."""
    return not event["isolated"]
