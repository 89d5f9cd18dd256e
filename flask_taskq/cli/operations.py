"""What commands on many jobs, on queues and on workers do. Each returns its exit code."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import Final

import click
import msgspec

from ..actors.broker import Broker
from ..config import redact_url
from ..engines.listing import Count
from ..engines.listing import Filter
from ..engines.listing import WorkerInfo
from ..http import shown_status
from ..jobs.encoding import check_actor_name
from ..jobs.encoding import check_queue_name
from ..jobs.record import JobRecord
from ..jobs.record import Status
from .exit_codes import fail
from .exit_codes import FAILURE
from .exit_codes import SUCCESS
from .job_text import printable
from .job_text import show_time

#: How much of an error a line of a list has, in characters.
_ERROR: Final = 60


def list_queues(broker: Broker, *, as_json: bool) -> int:
    """Show what waits in which queue, since when, and who serves it."""
    now = broker.engine.now()
    states = {state.queue: state for state in broker.engine.queues.states()}
    infos = list(broker.engine.workers.all().values())
    declared = broker.get_declared_queues()
    served = {queue for info in infos for queue in info.queues}
    rows: list[dict[str, Any]] = []
    for queue in sorted({*states, *declared, *served}):
        state = states.get(queue)
        oldest = None if state is None else state.oldest
        rows.append(
            {
                "queue": queue,
                "queued": 0 if state is None else state.queued,
                "scheduled": 0 if state is None else state.scheduled,
                "oldest": oldest,
                "paused": state is not None and state.is_paused,
                "workers": sum(queue in info.queues for info in infos),
            }
        )
    if as_json:
        return _print_json(rows)
    lines = [("QUEUE", "QUEUED", "SCHEDULED", "OLDEST", "WORKERS", "")]
    for row in rows:
        age = "-" if row["oldest"] is None else _show_age(now - row["oldest"])
        lines.append(
            (
                printable(row["queue"]),
                f"{row['queued']:,}",
                f"{row['scheduled']:,}",
                age,
                str(row["workers"]),
                "paused" if row["paused"] else "",
            )
        )
    return _print_table(lines)


def list_jobs(
    broker: Broker,
    *,
    statuses: Sequence[str],
    queue: str | None,
    actor: str | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> int:
    """Show a page of jobs."""
    wanted = Filter(
        statuses=tuple(Status(status) for status in statuses),
        queue=None if queue is None else _check(check_queue_name, queue, "--queue"),
        actor=None if actor is None else _check(check_actor_name, actor, "--actor"),
    )
    try:
        records, following = broker.engine.jobs.page(wanted, cursor, limit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--after") from None
    counts = broker.engine.jobs.counts(wanted)
    if as_json:
        return _print_json(
            {
                "jobs": [_describe(record) for record in records],
                "cursor": following,
                "counts": {status: count._asdict() for status, count in counts.items()},
            }
        )
    lines = [("ID", "STATUS", "QUEUE", "ACTOR", "ATTEMPT", "CREATED", "ERROR")]
    for record in records:
        found = record.error
        text = "" if found is None else f"{found.type}: {found.message}".split("\n")[0]
        lines.append(
            (
                record.id,
                shown_status(record),
                printable(record.queue),
                printable(record.actor),
                str(record.attempt),
                show_time(record.created_at),
                printable(text[:_ERROR]),
            )
        )
    _print_table(lines)
    click.echo(_sum_up(counts))
    if following is not None:
        click.echo(f"There may be more: --after {following}")
    return SUCCESS


def retry_jobs(broker: Broker, job_ids: Sequence[str]) -> int:
    """Run jobs again that failed or were cancelled."""
    code = SUCCESS
    for job_id in job_ids:
        before = broker.get_record(job_id)
        record = broker.requeue(job_id)
        if record.status is Status.QUEUED and record.version != before.version:
            click.echo(f"Job {job_id} is queued again.")
        elif record.status in (Status.FAILED, Status.CANCELLED):
            text = f"job {job_id} stays {record.status}: another job has its unique key"
            code = fail(text, FAILURE)
        else:
            text = f"job {job_id} is {shown_status(record)}: only what failed or was cancelled"
            code = fail(f"{text} can be run again", FAILURE)
    return code


def delete_jobs(broker: Broker, job_ids: Sequence[str]) -> int:
    """Remove jobs with their records."""
    code = SUCCESS
    for job_id in job_ids:
        record = broker.delete(job_id)
        if record.status is Status.RUNNING:
            text = f"job {job_id} is running: cancel it first, by flask taskq job --cancel"
            code = fail(text, FAILURE)
        else:
            click.echo(f"Job {job_id} is deleted; it was {shown_status(record)}.")
    return code


def pause_queue(broker: Broker, queue: str) -> int:
    """Let no worker fetch from a queue."""
    broker.engine.queues.pause(_check(check_queue_name, queue, "QUEUE"))
    click.echo(f"Queue {queue} is paused. What runs goes on, and what is sent waits.")
    return SUCCESS


def resume_queue(broker: Broker, queue: str) -> int:
    """End a pause."""
    broker.engine.queues.resume(_check(check_queue_name, queue, "QUEUE"))
    click.echo(f"Queue {queue} is served.")
    return SUCCESS


def purge_queue(broker: Broker, queue: str, *, is_sure: bool) -> int:
    """Remove all jobs that wait in a queue."""
    _check(check_queue_name, queue, "QUEUE")
    depth = broker.engine.queues.depths().get(queue, 0)
    if depth and not is_sure:
        click.confirm(f"Remove {depth:,} jobs that wait in the queue {queue}?", abort=True)
    removed = broker.engine.queues.purge(queue)
    click.echo(f"{removed:,} jobs are removed.")
    return SUCCESS


def list_workers(broker: Broker, *, as_json: bool) -> int:
    """Show the processes that hold jobs, or may fetch some."""
    infos = broker.engine.workers.all()
    if as_json:
        rows = [{"worker": name, **_describe_worker(info)} for name, info in infos.items()]
        return _print_json(rows)
    lines = [("WORKER", "HOST", "PID", "VERSION", "STARTED", "QUEUES")]
    for name, info in infos.items():
        lines.append(
            (
                printable(name),
                printable(info.hostname) or "-",
                str(info.pid or "-"),
                printable(info.version) or "-",
                show_time(info.started_at) if info.started_at else "-",
                printable(", ".join(info.queues)) or "-",
            )
        )
    return _print_table(lines)


def prepare_storage(broker: Broker) -> int:
    """Make ready what jobs are stored in."""
    broker.engine.connect()
    click.echo(f"{redact_url(broker.settings.broker_url)} is ready.")
    return SUCCESS


def _check(check: Callable[[str], str], name: str, hint: str) -> str:
    try:
        return check(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None


def _describe(record: JobRecord) -> dict[str, Any]:
    error = record.error
    return {
        "id": record.id,
        "status": shown_status(record),
        "queue": record.queue,
        "actor": record.actor,
        "priority": record.priority,
        "attempt": record.attempt,
        "max_attempts": record.max_attempts,
        "created_at": record.created_at,
        "scheduled_for": record.scheduled_for,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "status_reason": record.status_reason,
        "error": None if error is None else {"type": error.type, "message": error.message},
    }


def _describe_worker(info: WorkerInfo) -> dict[str, Any]:
    return {
        "hostname": info.hostname,
        "pid": info.pid,
        "version": info.version,
        "started_at": info.started_at or None,
        "queues": info.queues,
    }


def _sum_up(counts: dict[Status, Count]) -> str:
    words = [
        f"{count.number:,}{'' if count.is_exact else '+'} {status}"
        for status, count in counts.items()
        if count.number or not count.is_exact
    ]
    return ", ".join(words) if words else "no jobs"


def _show_age(age: int) -> str:
    """How long something waits, in the largest unit that it has one of."""
    seconds = max(0, age) // 1_000
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {name}"
    return f"{seconds} s"


def _print_table(lines: Sequence[Sequence[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells: Iterable[str] = (
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        )
        click.echo("  ".join(cells).rstrip())
    return SUCCESS


def _print_json(value: Any) -> int:
    click.echo(msgspec.json.encode(value))
    return SUCCESS
