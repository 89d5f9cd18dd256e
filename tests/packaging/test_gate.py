"""The gate itself: what lets a change pass, and what stops it."""

import os
import subprocess
import sys
import time

from tests import gate


def stage(code, budget=30):
    return gate.Stage("probe", budget, [[sys.executable, "-c", code]])


def test_a_stage_that_succeeds_passes():
    """The rule."""
    assert gate.run_stage(stage("pass")).passed


def test_a_stage_that_fails_does_not_pass():
    """Its exit code decides, and not what it prints."""
    assert not gate.run_stage(stage("raise SystemExit(5)")).passed


def test_a_stage_fails_with_its_first_command():
    """A later command that succeeds does not make up for it."""
    commands = [[sys.executable, "-c", f"raise SystemExit({code})"] for code in (1, 0)]
    assert not gate.run_stage(gate.Stage("probe", 30, commands)).passed


def test_a_stage_that_hangs_is_stopped():
    """It gets twice its budget, of which it needs nothing after the signal."""
    started = time.monotonic()
    outcome = gate.run_stage(stage("import time; time.sleep(60)", budget=0.5))
    assert not outcome.passed
    assert time.monotonic() - started < 30


def test_a_stage_leaves_no_process_behind(tmp_path):
    """What a test has started, and forgotten, ends with the tests."""
    # The child holds the writing end of the FIFO: its end is the end of the file.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    code = (
        "import subprocess, sys; subprocess.Popen("
        "[sys.executable, '-c', 'import time; time.sleep(60)'], "
        f"stdout=open({str(fifo)!r}, 'w'))"
    )
    assert gate.run_stage(stage(code)).passed
    os.set_blocking(reader, True)
    started = time.monotonic()
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert time.monotonic() - started < 30


def test_a_stage_over_its_budget_is_shown_and_passes(capsys):
    """A busy machine is no defect."""
    late = gate.Outcome(stage("pass", budget=10), used=15.0, passed=True)
    assert gate.report([late])
    assert "OVER BUDGET" in capsys.readouterr().out


def test_stages_over_the_limit_do_not_pass(capsys):
    """Each within its patience, and too long together."""
    used = gate.PATIENCE * gate.LIMIT + 1.0
    late = gate.Outcome(stage("pass", budget=500), used=used, passed=True)
    assert not gate.report([late])


def test_the_budgets_fit_into_the_limit():
    """Otherwise no stage would have to keep its own."""
    assert sum(one.budget for one in gate.STAGES if not one.is_beside) <= gate.LIMIT
    assert max(one.budget for one in gate.STAGES if one.is_beside) <= gate.LIMIT


def test_stages_that_run_beside_others_do_not_add_to_their_time(capsys):
    """The longest of them counts."""
    beside = gate.Stage("beside", 300, [], is_beside=True)
    outcomes = [
        gate.Outcome(stage("pass", budget=300), used=300.0, passed=True),
        gate.Outcome(beside, used=310.0, passed=True),
        gate.Outcome(beside, used=290.0, passed=True),
    ]
    assert gate.report(outcomes)
    assert "total      310.0 /" in capsys.readouterr().out


def test_what_a_stage_beside_the_others_prints_is_shown_at_its_end(capfdbinary):
    """In one piece, whatever the others print meanwhile."""
    beside = gate.Beside(stage("print('from beside'); raise SystemExit(3)"))
    beside.start()
    assert not beside.finish().passed
    assert b"from beside" in capfdbinary.readouterr().out


def test_who_stops_the_gate_stops_the_stages_beside_it():
    """Also when all others are done, and the gate only waits for them."""
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    main = (
        "import sys; from tests import gate; gate.STAGES = [gate.Stage("
        f"'probe', 30, [[sys.executable, '-c', {code!r}]], is_beside=True)]; "
        "sys.exit(gate.main([]))"
    )
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-c", main], cwd=gate.ROOT).returncode == 130
    assert time.monotonic() - started < 50


def test_a_stage_that_does_not_exist_is_an_error(capsys):
    """A misspelled stage must not look like a green one."""
    assert gate.main(["typos"]) == 2
