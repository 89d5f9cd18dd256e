"""``flask taskq``.

Every ``flask`` command of every project imports this module, so it imports nothing heavy:
a command imports what it needs when it runs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import ScriptInfo
from flask.cli import with_appcontext

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..actors.broker import Broker
    from ..app.extension import TaskQ
    from ..worker.processes.supervisor import SupervisorOptions

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS = ("text", "json")

#: As ``flask_taskq.Status`` has them. Written out, to keep this module cheap to import.
STATUSES = (
    "scheduled",
    "queued",
    "blocked",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
)


@click.group()
def taskq() -> None:
    """Background jobs."""


# The worker does not import the app, so it has no app context: children build the app.
@taskq.command()
@click.option(
    "-p",
    "--processes",
    type=click.IntRange(min=1),
    default=None,
    help="How many processes. Default: one for each CPU that may be used.",
)
@click.option(
    "-t",
    "--threads",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="How many jobs each process runs at the same time.",
)
@click.option(
    "-Q",
    "--queues",
    default=None,
    metavar="NAMES",
    help="Queues to serve, separated by commas. Default: those of all actors.",
)
@click.option(
    "--grace",
    type=click.IntRange(min=0),
    default=None,
    metavar="MS",
    help="Milliseconds that running jobs get to end at shutdown. Default: TASKQ_GRACE.",
)
@click.option(
    "--connect-timeout",
    type=click.IntRange(min=0),
    default=60_000,
    show_default=True,
    metavar="MS",
    help="Milliseconds to reach the engine in at the start; 0 tries for ever.",
)
@click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Replace a process when it has run about N jobs; up to a tenth more, at random.",
)
@click.option(
    "--max-memory",
    default=None,
    metavar="BYTES",
    help="Replace a process that takes more memory, such as 512M; K, M, and G are understood.",
)
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged. At info, a line for each job.",
)
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS, case_sensitive=False),
    default="text",
    show_default=True,
    help="How it is logged: lines for people, or a JSON object on each line.",
)
@click.option(
    "--pid-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write the supervisor's process id to this file while it runs.",
)
@click.option("--check", is_flag=True, help="Build the app once, say what is found, end.")
@click.pass_context
def worker(
    context: click.Context,
    processes: int | None,
    threads: int,
    queues: str | None,
    grace: int | None,
    connect_timeout: int,
    max_jobs: int | None,
    max_memory: str | None,
    log_level: str,
    log_format: str,
    pid_file: Path | None,
    check: bool,
) -> None:
    """Run jobs until SIGTERM or SIGINT. SIGHUP loads new code.

    Exit codes: 0 after one signal, 143 or 130 after a second one, 1 when the pid file is
    held by another worker or cannot be written, 2 when the command or the app's name is
    wrong, 3 when the engine was not reached in time. With --check also 2 when the app cannot
    be built, and 143, 130, or 129 after a signal.
    """
    from ..worker.__main__ import become_supervisor
    from ..worker.__main__ import SupervisorCommand
    from ..worker.processes.supervisor import SupervisorOptions
    from .cpus import count_cpus

    cpus = count_cpus()
    options = SupervisorOptions(
        command=_child_command(context, log_level, log_format),
        processes=processes or cpus.number,
        processes_reason="--processes" if processes else cpus.reason,
        threads=threads,
        queues=None if queues is None else _split_queues(queues),
        grace=grace,
        connect_timeout=connect_timeout,
        max_jobs=max_jobs,
        max_memory=None if max_memory is None else _parse_size(max_memory),
    )
    if check:
        sys.exit(_check_app(options, log_level, log_format))
    become_supervisor(
        SupervisorCommand(
            options=options,
            log_level=log_level,
            log_format=log_format,
            pid_file=None if pid_file is None else str(pid_file),
        )
    )


@taskq.command()
@with_appcontext
def actors() -> None:
    """List the app's actors, with their queues and priorities."""
    from ..app.loading import import_actors
    from ..errors import ConfigurationError

    extension = _find_extension()
    try:
        import_actors(extension.broker.settings.actors)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    rows = [("ACTOR", "QUEUE", "PRIORITY")]
    for _, actor in sorted(extension.broker.actors.items()):
        rows.append((actor.actor_name, actor.queue_name, str(actor.priority)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@taskq.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until it has ended, and show how far it is.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=None,
    metavar="MS",
    help="Milliseconds that --wait waits. Default: without limit.",
)
@click.option("--cancel", is_flag=True, help="Cancel it, or ask it to stop if it runs.")
@click.option("--json", "as_json", is_flag=True, help="Show it as GET /jobs/ID does.")
@with_appcontext
def job(job_id: str, wait: bool, timeout: int | None, cancel: bool, as_json: bool) -> None:
    """Show the job with this ID.

    Exit codes: 0 when all went well, 1 when there is no such job, when it did not succeed
    (with --wait) or could not be cancelled, 2 for wrong usage, 3 when the engine was not
    reached, 124 when the time was over, 130 after Ctrl-C, which leaves the job alone.
    """
    from .exit_codes import run
    from .job import handle_job

    if timeout is not None and not wait:
        raise click.UsageError("--timeout says how long --wait waits: it needs --wait")
    extension = _find_extension()
    code = run(
        lambda: handle_job(
            extension, job_id, wait=wait, timeout=timeout, cancel=cancel, as_json=as_json
        )
    )
    sys.exit(code)


@taskq.command()
@click.option("--json", "as_json", is_flag=True, help="Show them as JSON, for programs.")
@with_appcontext
def queues(as_json: bool) -> None:
    """List the queues: what waits in each, since when, and how many workers serve it."""
    from .operations import list_queues

    _run(lambda broker: list_queues(broker, as_json=as_json))


@taskq.command()
@click.option(
    "-s",
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES),
    help="Only jobs with this status; may be repeated.",
)
@click.option("-q", "--queue", default=None, metavar="NAME", help="Only jobs of this queue.")
@click.option("-a", "--actor", default=None, metavar="NAME", help="Only jobs of this actor.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="How many at most.",
)
@click.option("--after", default=None, metavar="CURSOR", help="The page behind the last one.")
@click.option("--json", "as_json", is_flag=True, help="Show them as JSON, for programs.")
@with_appcontext
def jobs(
    statuses: tuple[str, ...],
    queue: str | None,
    actor: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List jobs: those that run, those that wait in the order of their turns, and those that
    are over, the newest first."""
    from .operations import list_jobs

    _run(
        lambda broker: list_jobs(
            broker,
            statuses=statuses,
            queue=queue,
            actor=actor,
            limit=limit,
            cursor=after,
            as_json=as_json,
        )
    )


@taskq.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@with_appcontext
def retry(job_ids: tuple[str, ...]) -> None:
    """Run jobs again that failed or were cancelled, with all their attempts before them."""
    from .operations import retry_jobs

    _run(lambda broker: retry_jobs(broker, job_ids))


@taskq.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@with_appcontext
def delete(job_ids: tuple[str, ...]) -> None:
    """Remove jobs that no worker runs, with their records."""
    from .operations import delete_jobs

    _run(lambda broker: delete_jobs(broker, job_ids))


@taskq.command()
@click.argument("queue", metavar="QUEUE")
@with_appcontext
def pause(queue: str) -> None:
    """Let no worker take jobs from this queue. What runs goes on."""
    from .operations import pause_queue

    _run(lambda broker: pause_queue(broker, queue))


@taskq.command()
@click.argument("queue", metavar="QUEUE")
@with_appcontext
def resume(queue: str) -> None:
    """Let workers take jobs from this queue again."""
    from .operations import resume_queue

    _run(lambda broker: resume_queue(broker, queue))


@taskq.command()
@click.argument("queue", metavar="QUEUE")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@with_appcontext
def purge(queue: str, is_sure: bool) -> None:
    """Remove all jobs that wait in this queue, with their records."""
    from .operations import purge_queue

    _run(lambda broker: purge_queue(broker, queue, is_sure=is_sure))


@taskq.command()
@click.option("--json", "as_json", is_flag=True, help="Show them as JSON, for programs.")
@with_appcontext
def workers(as_json: bool) -> None:
    """List the processes that run jobs: where, since when, and for which queues."""
    from .operations import list_workers

    _run(lambda broker: list_workers(broker, as_json=as_json))


@taskq.command("init-db")
@with_appcontext
def init_db() -> None:
    """Make the tables that jobs are stored in, or bring them to this release.

    An app and its workers do this themselves when they connect. Run it before them where they
    may not, or in a deployment that does one thing after another.
    """
    from .operations import prepare_storage

    _run(prepare_storage)


def _run(act: Callable[[Broker], int]) -> None:
    """Do what a command does, and end with its exit code."""
    from .exit_codes import run

    extension = _find_extension()
    sys.exit(run(lambda: act(extension.broker)))


def _find_extension() -> TaskQ:
    from ..app.extension import TaskQ

    extension = current_app.extensions.get("taskq")
    if not isinstance(extension, TaskQ):
        text = "call TaskQ(app) or taskq.init_app(app) in the factory"
        raise click.ClickException(f"the app {current_app.name!r} has no TaskQ: {text}")
    return extension


def _child_command(context: click.Context, log_level: str, log_format: str) -> list[str]:
    import msgspec

    from .factory import FactoryNotFound
    from .factory import locate_factory

    child = f"{__name__}.worker_child"
    if getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "") == child:
        # A program that this child imports runs its commands then.
        raise click.UsageError("a process of a worker cannot be a worker itself")
    command = [sys.executable, "-m", child]
    command += ["--log-level", log_level, "--log-format", log_format]
    info = context.ensure_object(ScriptInfo)
    if info.create_app is not None:
        # A program with a FlaskGroup of its own. As in Flask, it wins over FLASK_APP.
        try:
            place = locate_factory(info.create_app, info.set_debug_flag)
        except FactoryNotFound as error:
            raise click.UsageError(str(error)) from None
        return [*command, "--factory", msgspec.json.encode(place).decode()]
    return [*command, "--app", info.app_import_path] if info.app_import_path else command


def _check_app(options: SupervisorOptions, log_level: str, log_format: str) -> int:
    from ..clock import Clock
    from ..worker.log_output import configure_logging
    from ..worker.processes.check_command import check

    configure_logging(log_level, log_format)
    return check(options, Clock(), _show)


def _show(name: str, value: str) -> None:
    from .job_text import list_row

    click.echo(list_row(name, value))


def _split_queues(queues: str) -> list[str]:
    from ..jobs.encoding import check_queue_name

    try:
        return [check_queue_name(name.strip()) for name in queues.split(",")]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--queues") from None


def _parse_size(size: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,15})([KMG]?)", size, re.ASCII | re.IGNORECASE)
    if match is None:
        text = f"{size!r} is no number of bytes, such as 536870912, 524288K, 512M, or 2G"
        raise click.BadParameter(text, param_hint="--max-memory")
    number, unit = match.groups()
    return int(number) << 10 * " KMG".index(unit.upper() or " ")
