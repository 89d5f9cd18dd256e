"""The statements of SQL engines, except those of :mod:`.transition_statements`.

The comment above a statement lists its parameters in order. They are plain question marks,
because some releases of Python 3.12 warn about numbered parameters.
"""

from __future__ import annotations

from typing import Final

from ...jobs.transitions import CLAIM
from ...jobs.transitions import PROMOTE
from ...jobs.transitions import REQUEUE
from .schema import Tables
from .transition_statements import set_live
from .transition_statements import SHARED

#: Columns of ``live``, in the order of the values of a new row.
NEW_LIVE: Final = "seq, status, queue, priority, place, scheduled_for, updated_at, unique_key"

#: Columns of a claimed row, as ``rows.to_delivery`` reads them.
CLAIMED: Final = (
    "seq, queue, priority, place, attempt, claim, crashes, releases, released_since"
)
#: The columns of the table ``job`` that a claim reads.
OF_JOB: Final = "seq, id, actor, message, created_at, attempts"

_EITHER: Final = ", ".join(f"coalesce(o.{name}, l.{name})" for name in SHARED)


class Statements:
    """The statements, with the names of a namespace's tables.

    :param tables: the names of the tables. The settings have validated them. Only these names
        are inserted into the text of the statements.
    """

    def __init__(self, tables: Tables) -> None:
        job, live, outcome, worker, pause, meta = tables
        self.tables = tables
        self.schema_version = f"SELECT name, value FROM {meta} WHERE name <> 'place'"

        # --- New jobs ---

        # The place orders the jobs within a priority. A job gets its place when it becomes
        # queued, and a later place is a higher number. The place of a new row is its own
        # number, so that sending a job does not write a counter. The counter covers the places
        # that no row shows: those of promoted jobs, and that of the last row before its
        # deletion.
        rows = f"coalesce((SELECT max(seq) FROM {job}), 0)"
        # It is also the last number that was assigned to a row.
        self.last_place = f"SELECT max({rows}, (SELECT value FROM {meta} WHERE name = 'place'))"
        # how many places; 0 before rows are deleted
        self.take_places = (
            f"UPDATE {meta} SET value = max(value, {rows}) + ? WHERE name = 'place'"
            " RETURNING value"
        )
        # the columns listed in the statement
        self.insert_job = f"""INSERT INTO {job} (
                seq, id, queue, actor, priority, created_at, max_attempts, unique_key, message
            ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        # as NEW_LIVE
        self.insert_live = f"INSERT INTO {live} ({NEW_LIVE}) VALUES ({_marks(8)})"
        # id; unique_key
        known = f"""SELECT j.id, coalesce(o.status, l.status), l.scheduled_for FROM {job} j
            LEFT JOIN {live} l ON l.seq = j.seq LEFT JOIN {outcome} o ON o.seq = j.seq"""
        self.known = f"{known} WHERE j.id = ?"
        self.key_holder = f"{known} WHERE l.unique_key = ?"

        # --- Claims ---

        # now, limit
        self.due = f"""SELECT seq FROM {live} WHERE status = 'scheduled'
            AND scheduled_for <= ? ORDER BY scheduled_for, seq LIMIT ?"""
        # the values for self.promote.names; seq
        self.promote = set_live(PROMOTE)
        self.promote_text = f"UPDATE {live} SET {self.promote.text} WHERE seq = ?"
        self.claim = set_live(CLAIM)
        # the values for self.claim.names; queue, lane, limit
        self.claim_next = f"""UPDATE {live} SET {self.claim.text} WHERE seq IN (
                SELECT seq FROM {live} WHERE status = 'queued' AND queue = ? AND lane = ?
                ORDER BY priority, place LIMIT ?
            ) RETURNING {CLAIMED}"""
        # the values for self.claim.names; id
        self.claim_one = f"""UPDATE {live} SET {self.claim.text} WHERE status = 'queued'
            AND seq = (SELECT seq FROM {job} WHERE id = ?) RETURNING {CLAIMED}"""
        # numbers of rows, as JSON
        self.claimed_jobs = f"""SELECT {OF_JOB} FROM {job}
            WHERE seq IN (SELECT value FROM json_each(?))"""
        # worker
        self.lease = f"SELECT lease_until, lease FROM {worker} WHERE id = ?"

        # --- Reports from running jobs ---

        fence = "WHERE seq = ? AND status = 'running' AND worker = ? AND claim = ?"
        # seq, worker, claim
        self.is_asked = f"SELECT cancel_requested FROM {live} {fence}"
        # progress, now; seq, worker, claim
        self.store_report = f"""UPDATE {live} SET progress = coalesce(?, progress),
            updated_at = ?, version = version + 1 {fence}"""
        # seq
        self.logs = f"SELECT logs FROM {job} WHERE seq = ?"
        # logs, seq
        self.write_logs = f"UPDATE {job} SET logs = ? WHERE seq = ?"

        # --- Records ---

        columns = f"""j.id, j.queue, j.actor, j.priority, coalesce(o.status, l.status),
            j.message, j.created_at, coalesce(o.finished_at, l.updated_at), l.scheduled_for,
            o.finished_at, o.expires_at, {_EITHER}, coalesce(o.version, l.version),
            j.max_attempts, l.status_reason, o.result,
            CASE WHEN o.status = 'succeeded' THEN NULL ELSE j.error END, j.attempts, j.logs,
            coalesce(l.lane, 'ordinary'), coalesce(l.releases, 0), l.released_since,
            j.unique_key"""
        joined = f"""{job} j LEFT JOIN {live} l ON l.seq = j.seq
            LEFT JOIN {outcome} o ON o.seq = j.seq"""
        # id, now
        self.get = f"""SELECT {columns} FROM {joined}
            WHERE j.id = ? AND (o.expires_at IS NULL OR o.expires_at > ?)"""
        # id, now
        self.find = f"""SELECT j.seq, coalesce(o.status, l.status) FROM {joined}
            WHERE j.id = ? AND (o.expires_at IS NULL OR o.expires_at > ?)"""
        # now, seq
        self.ask_to_cancel = f"""UPDATE {live} SET cancel_requested = 1, updated_at = ?,
            version = version + 1
            WHERE seq = ? AND status = 'running' AND cancel_requested = 0"""
        # status, place, now; seq
        again = next(iter(REQUEUE.values())).effects.resets
        kept = [name for name in SHARED if name not in again]
        self.requeue = f"""INSERT INTO {live} (
                seq, status, queue, priority, place, updated_at, version, unique_key,
                {", ".join(kept)})
            SELECT j.seq, 'queued', j.queue, j.priority, ?, ?, o.version + 1, j.unique_key,
                {", ".join(f"o.{name}" for name in kept)}
            FROM {job} j JOIN {outcome} o ON o.seq = j.seq WHERE j.seq = ?"""
        # seq
        self.forget_outcome = f"DELETE FROM {outcome} WHERE seq = ?"
        # seq
        self.delete = tuple(
            f"DELETE FROM {table} WHERE seq = ?" for table in (live, outcome, job)
        )
        # This examines the jobs that ended first. They also expire first, as long as the
        # configured retention times stay the same. An index on the expiry time would add a cost
        # to every job.
        # status, limit, now
        self.expired = f"""SELECT seq FROM (SELECT seq, expires_at FROM {outcome}
            WHERE status = ? ORDER BY finished_at LIMIT ?) WHERE expires_at <= ?"""

        # --- Lists ---

        # One index lookup finds each name. Reading all rows to find the names would take longer
        # the more jobs there are.
        self.queues = f"""WITH RECURSIVE found (queue) AS (
                SELECT min(queue) FROM {live} WHERE status = 'queued'
                UNION ALL
                SELECT (SELECT min(queue) FROM {live}
                    WHERE status = 'queued' AND queue > found.queue)
                FROM found WHERE found.queue IS NOT NULL
            ) SELECT queue FROM found WHERE queue IS NOT NULL"""
        live_page = f"SELECT {columns}, {{key}} FROM {live} l JOIN {job} j ON j.seq = l.seq"
        live_page += f" LEFT JOIN {outcome} o ON o.seq = l.seq"
        # seq, limit
        self.running_page = (
            live_page.format(key="l.seq")
            # The plus sign stops SQLite from scanning all rows in the order of their numbers.
            + " WHERE l.status = 'running' AND +l.seq > ? ORDER BY +l.seq LIMIT ?"
        )
        # queue, lane, priority, place, limit
        self.queued_page = (
            live_page.format(key="l.priority, l.place")
            + """ WHERE l.status = 'queued' AND l.queue = ? AND l.lane = ?
            AND (l.priority, l.place) > (?, ?) ORDER BY l.priority, l.place LIMIT ?"""
        )
        # scheduled_for, seq, limit
        self.scheduled_page = (
            live_page.format(key="l.scheduled_for, l.seq")
            + """ WHERE l.status = 'scheduled' AND (l.scheduled_for, l.seq) > (?, ?)
            ORDER BY l.scheduled_for, l.seq LIMIT ?"""
        )
        # status, finished_at, seq, now, limit
        self.ended_page = f"""SELECT {columns}, o.finished_at, o.seq FROM {outcome} o
            JOIN {job} j ON j.seq = o.seq LEFT JOIN {live} l ON l.seq = o.seq
            WHERE o.status = ? AND (o.finished_at, o.seq) < (?, ?) AND o.expires_at > ?
            ORDER BY o.finished_at DESC, o.seq DESC LIMIT ?"""
        # These count how many of the first jobs of a status match, and how many were examined.
        # A count without a filter reads no row of ``job``.
        fits = "j.queue = coalesce(?, j.queue) AND j.actor = coalesce(?, j.actor)"
        of_live = f"SELECT seq, 1 AS is_kept FROM {live} WHERE status = ? LIMIT ?"
        of_outcome = f"""SELECT seq, expires_at > ? AS is_kept FROM {outcome}
            WHERE status = ? ORDER BY finished_at DESC LIMIT ?"""
        # status, limit
        self.count_live = f"SELECT count(*), count(*) FROM ({of_live})"
        # queue, actor, status, limit
        self.count_live_filtered = f"""SELECT count(*) FILTER (WHERE {fits}), count(*)
            FROM ({of_live}) x JOIN {job} j ON j.seq = x.seq"""
        # now, status, limit
        self.count_ended = f"""SELECT count(*) FILTER (WHERE is_kept), count(*)
            FROM ({of_outcome})"""
        # queue, actor, now, status, limit
        self.count_ended_filtered = f"""SELECT
                count(*) FILTER (WHERE is_kept AND {fits}), count(*)
            FROM ({of_outcome}) x JOIN {job} j ON j.seq = x.seq"""

        # --- Queues ---

        # There are two statements, so that each one reads only an index.
        self.depths = tuple(
            f"SELECT queue, count(*) FROM {live} WHERE status = '{status}' GROUP BY queue"
            for status in ("queued", "scheduled")
        )
        # queue
        self.oldest = f"""SELECT priority, place, updated_at FROM {live}
            WHERE status = 'queued' AND queue = ? AND lane = ?
            ORDER BY priority, place LIMIT 1"""
        self.paused = f"SELECT queue FROM {pause}"
        # queue
        self.pause = f"INSERT INTO {pause} VALUES (?) ON CONFLICT DO NOTHING"
        self.resume = f"DELETE FROM {pause} WHERE queue = ?"
        self.newest = f"SELECT max(seq) FROM {job}"
        # queue, newest, limit
        self.waiting = tuple(
            f"""SELECT seq FROM {live}
                WHERE status = '{status}' AND queue = ? AND seq <= ? LIMIT ?"""
            for status in ("queued", "scheduled")
        )

        # --- Workers ---

        # worker, lease_until, lease
        self.register = f"""INSERT INTO {worker} (id, lease_until, lease) VALUES (?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until,
                lease = excluded.lease"""
        # host, info, worker
        self.introduce = f"UPDATE {worker} SET host = ?, info = ? WHERE id = ?"
        # lease_until, lease, worker
        self.renew = f"UPDATE {worker} SET lease_until = ?, lease = ? WHERE id = ?"
        # worker
        self.forget = f"DELETE FROM {worker} WHERE id = ?"
        # host
        self.workers_on = f"SELECT id, info FROM {worker} WHERE host = ? AND info IS NOT NULL"
        # now, now: of the monotonic clock
        self.lapsed = f"""SELECT id FROM {worker}
            WHERE lease_until <= ? OR lease_until > ? + lease ORDER BY id"""
        # now, now
        self.workers = f"""SELECT id, info FROM {worker}
            WHERE lease_until > ? AND lease_until <= ? + lease ORDER BY id"""
        # worker
        self.held = f"""SELECT l.seq, j.id, l.crashes, l.suspects, l.cancel_requested
            FROM {live} l JOIN {job} j ON j.seq = l.seq
            WHERE l.status = 'running' AND l.worker = ? ORDER BY l.seq"""

    def look(self, queues: int) -> str:
        """Return the query for all that a waiting consumer needs to know.

        The parameters are worker, worker, each queue, and lane. The columns are the end and the
        length of the worker's lease, the time when the next job is due, and whether a job may
        be claimed.
        """
        lease = self.lease.partition(" FROM ")[2]
        return f"""SELECT (SELECT lease_until FROM {lease}), (SELECT lease FROM {lease}),
            (SELECT min(scheduled_for) FROM {self.tables.live} WHERE status = 'scheduled'),
            {self._is_ready(queues)}"""

    def has_due(self, queues: int) -> str:
        """Return the query for whether a job of a lane may run now.

        The parameters are each queue, lane, now, each queue, and lane.
        """
        return f"""SELECT {self._is_ready(queues)}
            OR EXISTS (SELECT 1 FROM {self.tables.live} WHERE status = 'scheduled'
                AND scheduled_for <= ? AND queue IN ({_marks(queues)})
                AND queue NOT IN ({self.paused}) AND lane = ?)"""

    def _is_ready(self, queues: int) -> str:
        return f"""EXISTS (SELECT 1 FROM {self.tables.live} WHERE status = 'queued'
            AND queue IN ({_marks(queues)}) AND queue NOT IN ({self.paused}) AND lane = ?)"""


def _marks(count: int) -> str:
    return ", ".join("?" * count)
