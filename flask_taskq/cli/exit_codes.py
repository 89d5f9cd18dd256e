"""The exit codes of commands on jobs and queues. Click's own is 2, for wrong usage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click

from ..errors import BrokerError
from ..errors import ConfigurationError
from ..errors import DecodeError
from ..errors import JobNotFound

SUCCESS: Final = 0
FAILURE: Final = 1  #: there is no such job, or it is not as was asked
REFUSED: Final = 2  #: the configuration, or a word of the command, is wrong
UNREACHABLE: Final = 3  #: the engine, as that of the worker
TIMEOUT: Final = 124  #: as that of timeout(1)
INTERRUPTED: Final = 130  #: as that of a shell


def fail(text: str, exit_code: int) -> int:
    """Say what is wrong. :return: the exit code."""
    click.echo(f"Error: {text}", err=True)
    return exit_code


def run(act: Callable[[], int]) -> int:
    """Do what a command does. :return: its exit code, also where it cannot be done."""
    try:
        return act()
    except (JobNotFound, DecodeError) as error:
        return fail(str(error), FAILURE)
    except ConfigurationError as error:
        return fail(str(error), REFUSED)
    except BrokerError as error:
        return fail(str(error), UNREACHABLE)
