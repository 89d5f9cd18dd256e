"""The process of the supervisor, which ``flask taskq worker`` becomes.

It is a program of its own so that it has nothing in its memory that it does not need: the
command has imported Flask, and perhaps a program around it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from ..clock import Clock
from .log_output import configure_logging
from .processes.pid_file import PidFileError
from .processes.pid_file import write_pid_file
from .processes.supervisor import Supervisor
from .processes.supervisor import SupervisorOptions


class SupervisorCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is given.

    :param pid_file: where it writes its process id, if anywhere.
    """

    options: SupervisorOptions
    log_level: str
    log_format: str
    pid_file: str | None = None


def become_supervisor(command: SupervisorCommand) -> NoReturn:
    """Go on as a supervisor, in this process, which has the same id then."""
    sys.stdout.flush()
    sys.stderr.flush()
    text = msgspec.json.encode(command).decode()
    # Behind it, for who looks for the worker in a list of processes, the command line.
    os.execv(sys.executable, [sys.executable, "-m", __package__, text, "flask", *sys.argv[1:]])


def main(text: str) -> int:
    """Run a supervisor. :return: the exit code."""
    command = msgspec.json.decode(text, type=SupervisorCommand)
    configure_logging(command.log_level, command.log_format)
    path = None if command.pid_file is None else Path(command.pid_file)
    try:
        with write_pid_file(path):
            return Supervisor(command.options, Clock()).run()
    except PidFileError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
