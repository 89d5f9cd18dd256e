"""The page of commands says what the code does."""

import importlib
import re
from pathlib import Path

from flask_taskq.cli import job
from flask_taskq.cli import taskq
from flask_taskq.cli import worker

DOCS = Path(__file__).parents[2] / "docs"


def options_of(command):
    """The long forms, without ``--help``."""
    names = {name for option in command.params for name in option.opts}
    return {name for name in names if name.startswith("--")}


def test_every_exit_code_of_a_job_is_on_the_page():
    """And none that there is not."""
    module = importlib.import_module("flask_taskq.cli.exit_codes")
    names = ("SUCCESS", "FAILURE", "REFUSED", "UNREACHABLE", "TIMEOUT", "INTERRUPTED")
    [table] = re.findall(
        r"^exit code +meaning\n=+ +=+\n(.*?)^=",
        (DOCS / "commands.rst").read_text(),
        re.M | re.S,
    )
    codes = {int(code) for code in re.findall(r"^(\d+)", table, re.M)}
    assert codes == {getattr(module, name) for name in names}


def test_every_option_is_on_its_page():
    """Those of a worker, and of a job."""
    for command, page in ((worker, "worker.rst"), (job, "commands.rst")):
        text = (DOCS / page).read_text()
        assert {name for name in options_of(command) if f"``{name}``" not in text} == set()


def test_every_command_is_on_a_page():
    """By name."""
    text = (DOCS / "commands.rst").read_text()
    assert [
        name for name in taskq.commands if f"taskq {name}" not in text.replace("\n", " ")
    ] == []
