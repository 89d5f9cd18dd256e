"""Run the stages of the gate, each within its budget of seconds.

``make test`` runs all of them, ``make lint`` and its like one. Every stage runs, also
after one has failed, so that one run shows everything that is wrong.

Tests that start processes wait more than they work, and so they run beside the others, in
two stages at once.

A stage that overruns its budget is shown, and one that takes twice its budget is stopped
and fails: in between lies a busy machine, beyond it a hang, or a suite that has grown
too slow. The same holds for the limit of the whole. Who adds tests pays from the
budget, or argues for a larger one here.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent

#: Seconds for all stages together, on two cores, with the tools installed.
LIMIT = 480

#: A stage is stopped after this many times its budget.
PATIENCE = 2

#: What a stage that is asked to stop gets to print its report, in seconds.
LAST_WORDS = 10


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def ignoring(paths: list[str]) -> list[str]:
    return [f"--ignore={path}" for path in paths]


@dataclass(frozen=True)
class Stage:
    """One part of the gate.

    :param is_beside: whether it runs at the same time as the others.
    """

    name: str
    budget: float
    commands: list[list[str]]
    is_beside: bool = False


#: What starts workers, servers and browsers.
PROCESSES = ["tests/benchmarks", "tests/processes", "example_app/tests/test_browser.py"]
FAULTS = [
    "tests/faults",
    "tests/redis_engine",
    # Of those above, so that both stages take as long.
    "tests/processes/test_log_of_an_app.py",
    "tests/processes/test_proven_dead.py",
    "tests/processes/test_recycling.py",
]


STAGES = [
    Stage(
        "lint",
        15,
        [
            python("ruff", "check", "."),
            python("ruff", "format", "--check", "."),
            python("codespell_lib"),
        ],
    ),
    Stage("types", 60, [python("mypy")]),
    # It has no "python -m".
    Stage("layers", 15, [[str(BIN / "lint-imports"), "--no-logo"]]),
    # -E: a page that did not change can break by what it refers to.
    Stage(
        "docs",
        60,
        [python("sphinx", "-E", "-W", "--keep-going", "-q", "docs", "docs/_build/html")],
    ),
    Stage("tests", 320, [python("pytest", *ignoring(PROCESSES + FAULTS))]),
    Stage("processes", 360, [python("pytest", *PROCESSES, *ignoring(FAULTS))], is_beside=True),
    Stage("faults", 360, [python("pytest", *FAULTS)], is_beside=True),
]


@dataclass(frozen=True)
class Outcome:
    stage: Stage
    used: float
    passed: bool

    @property
    def verdict(self) -> str:
        if not self.passed:
            return "FAILED"
        if self.used > self.stage.budget:
            return "OVER BUDGET"
        return ""


def run_stage(stage: Stage, output: IO[bytes] | None = None) -> Outcome:
    """Run a stage.

    :param output: where its output goes; by default straight through, so that nothing here
        buffers, reorders or repeats it.
    """
    if output is None:
        print(f"\n=== {stage.name} (budget {stage.budget} s)", flush=True)
    started = time.monotonic()
    deadline = started + PATIENCE * stage.budget
    # All commands of a stage run, too: layout and spelling in one go.
    codes = [run_command(command, deadline, output) for command in stage.commands]
    return Outcome(stage, time.monotonic() - started, not any(codes))


def run_command(command: list[str], deadline: float, output: IO[bytes] | None = None) -> int:
    # In a session of its own, so that its whole tree can be ended with it.
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
    )
    running.append(process)
    try:
        return process.wait(max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        print(f"\nStopped: {PATIENCE} x the budget is used up.", flush=True)
        os.killpg(process.pid, signal.SIGINT)
        return 1
    except KeyboardInterrupt:
        interrupt()
        raise
    finally:
        end(process)
        running.remove(process)


#: Commands that have not ended.
running: list[subprocess.Popen[bytes]] = []


def interrupt() -> None:
    """Tell all commands to end: their sessions kept the Ctrl-C from them."""
    for one in list(running):
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(one.pid, signal.SIGINT)


class Beside(threading.Thread):
    """Runs a stage while others run, and keeps what it prints."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self._output = tempfile.TemporaryFile()

    def run(self) -> None:
        self._outcome = run_stage(self._stage, self._output)

    def finish(self) -> Outcome:
        """Wait for it, and print what it has printed."""
        print(f"\n=== {self._stage.name} (budget {self._stage.budget} s)", flush=True)
        self.join()
        self._output.seek(0)
        shutil.copyfileobj(self._output, sys.stdout.buffer)
        self._output.close()
        return self._outcome


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(LAST_WORDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        pass  # a second Ctrl-C does not wait for last words
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nothing is left, which is the rule
    process.wait()


def report(outcomes: list[Outcome]) -> bool:
    beside = [outcome.used for outcome in outcomes if outcome.stage.is_beside]
    total = max(*beside, sum(outcome.used for outcome in outcomes) - sum(beside), 0)
    print("\nstage       used / budget")
    for outcome in outcomes:
        name, budget = outcome.stage.name, outcome.stage.budget
        line = f"{name:<10}{outcome.used:6.1f} / {budget:3} s  {outcome.verdict}"
        print(line.rstrip())
    verdict = "OVER THE LIMIT" if total > LIMIT else ""
    print(f"{'total':<10}{total:6.1f} / {LIMIT:3} s  {verdict}".rstrip(), flush=True)
    return all(outcome.passed for outcome in outcomes) and total <= PATIENCE * LIMIT


def main(names: list[str]) -> int:
    unknown = set(names) - {stage.name for stage in STAGES}
    if unknown:
        print(f"No such stage: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    # They reach this process and not the stage's session, which has to end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    stages = [stage for stage in STAGES if not names or stage.name in names]
    beside = [Beside(stage) for stage in stages if stage.is_beside]
    for one in beside:
        one.start()
    try:
        outcomes = [run_stage(stage) for stage in stages if not stage.is_beside]
        outcomes += [one.finish() for one in beside]
    except KeyboardInterrupt:
        interrupt()
        for one in beside:
            one.join()
        return 130
    return 0 if report(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
