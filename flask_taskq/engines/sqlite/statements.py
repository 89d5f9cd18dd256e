"""The schema, and every statement that the engine runs.

Above each statement stands what its parameters are, in order. They are plain question
marks, since some releases of Python 3.12 warn of numbered ones.
"""

from __future__ import annotations

import re
from typing import Final

#: Grows with every change of the schema that older code could not work with.
SCHEMA_VERSION: Final = 1

#: Columns of a record, in the order in which ``records.to_record`` reads them.
RECORD: Final = (
    "id, queue, actor, priority, status, message, created_at, updated_at, due_at,"
    " started_at, finished_at, expires_at, attempt, max_attempts, crashes, suspects,"
    " cancel_requested, status_reason, result, error, attempts, progress, logs, worker, version"
)

#: Columns of a claimed row, in the order in which ``Consumer._deliver`` reads them.
CLAIMED: Final = (
    "priority, place, seq, id, queue, actor, message, attempt, claim, created_at, crashes,"
    " released_since, releases, attempts"
)


class Statements:
    """The statements, with the namespace in the name of every table and index.

    :param namespace: checked by the settings; the one thing put into the text.
    """

    def __init__(self, namespace: str) -> None:
        prefix = _prefix(namespace)
        job, worker, meta = f"{prefix}_job", f"{prefix}_worker", f"{prefix}_meta"
        holder = f"{prefix}_holder"

        # The large columns come last, so that reading the others follows no overflow page.
        # Partial indexes hold only jobs that are alive: a long history costs nothing.
        self.schema = (
            f"""CREATE TABLE {meta} (
                name TEXT PRIMARY KEY,
                value INTEGER NOT NULL
            ) WITHOUT ROWID""",
            f"""CREATE TABLE {job} (
                seq INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                queue TEXT NOT NULL,
                actor TEXT NOT NULL,
                priority INTEGER NOT NULL,
                status TEXT NOT NULL,
                place INTEGER NOT NULL,
                due_at INTEGER,
                attempt INTEGER NOT NULL DEFAULT 0,
                max_attempts INTEGER,
                crashes INTEGER NOT NULL DEFAULT 0,
                suspects INTEGER NOT NULL DEFAULT 0,
                releases INTEGER NOT NULL DEFAULT 0,
                released_since INTEGER,
                isolated INTEGER NOT NULL DEFAULT 0,
                worker TEXT,
                claim INTEGER NOT NULL DEFAULT 0,
                cancel_requested INTEGER NOT NULL DEFAULT 0,
                status_reason TEXT,
                version INTEGER NOT NULL DEFAULT 1,
                created_at INTEGER NOT NULL,
                started_at INTEGER,
                updated_at INTEGER NOT NULL,
                finished_at INTEGER,
                expires_at INTEGER,
                message BLOB NOT NULL,
                result BLOB,
                error BLOB,
                attempts BLOB,
                progress BLOB,
                logs BLOB
            )""",
            f"""CREATE INDEX {job}_ready ON {job} (queue, isolated, priority, place)
                WHERE status = 'queued'""",
            f"CREATE INDEX {job}_due ON {job} (due_at, queue) WHERE status = 'scheduled'",
            f"CREATE INDEX {job}_held ON {job} (worker) WHERE status = 'running'",
            f"CREATE INDEX {job}_expiry ON {job} (expires_at) WHERE expires_at IS NOT NULL",
            # Milliseconds of the monotonic clock. The length is kept beside the end, since
            # an end that is further away than that is from before the machine was started.
            f"""CREATE TABLE {worker} (
                id TEXT PRIMARY KEY,
                lease_until REAL NOT NULL,
                lease INTEGER NOT NULL
            ) WITHOUT ROWID""",
            f"INSERT INTO {meta} VALUES ('place', 0), ('schema', {SCHEMA_VERSION})",
        )
        # Apart from the workers, and made when it is missing: a release that does not know
        # it works with the same file.
        self.has_holders = f"SELECT 1 FROM sqlite_master WHERE name = '{holder}'"
        self.make_holders = f"""CREATE TABLE IF NOT EXISTS {holder} (
            worker TEXT PRIMARY KEY,
            host TEXT NOT NULL,
            processes BLOB NOT NULL
        ) WITHOUT ROWID"""
        self.has_schema = f"SELECT 1 FROM sqlite_master WHERE name = '{meta}'"
        self.schema_version = f"SELECT value FROM {meta} WHERE name = 'schema'"

        # --- Jobs come in ---

        # The order within a priority: a job's place is given to it when it becomes queued,
        # and a later place is a higher number. A new row's place is its own number, which
        # saves writing a counter with every job that is sent. The counter holds what rows
        # do not show: places of promoted jobs, and of the last row before it was deleted.
        rows = f"coalesce((SELECT max(seq) FROM {job}), 0)"
        counter = f"(SELECT value FROM {meta} WHERE name = 'place')"
        next_place = f"1 + max({rows}, {counter})"
        # how many; 0 before rows are deleted
        self.take_places = (
            f"UPDATE {meta} SET value = max(value, {rows}) + ? WHERE name = 'place'"
            " RETURNING value"
        )
        # as listed
        self.insert = f"""INSERT INTO {job} (
                id, queue, actor, priority, status, due_at, max_attempts, created_at,
                updated_at, message, seq, place
            ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {next_place}, {next_place})
            ON CONFLICT (id) DO NOTHING"""

        # --- Jobs go to a worker ---

        # now, limit
        self.due = f"""SELECT seq FROM {job} WHERE status = 'scheduled' AND due_at <= ?
            ORDER BY due_at, seq LIMIT ?"""
        # place, now, seq
        self.promote = f"""UPDATE {job} SET status = 'queued', place = ?, due_at = NULL,
            updated_at = ?, version = version + 1 WHERE seq = ?"""
        # worker, now, now, queue, isolated, limit
        self.claim = f"""UPDATE {job} SET status = 'running', worker = ?, started_at = ?,
                updated_at = ?, claim = claim + 1, attempt = attempt + 1,
                status_reason = NULL, progress = NULL, version = version + 1
            WHERE seq IN (
                SELECT seq FROM {job} WHERE status = 'queued' AND queue = ? AND isolated = ?
                ORDER BY priority, place LIMIT ?
            ) RETURNING {CLAIMED}"""
        # worker
        self.lease = f"SELECT lease_until, lease FROM {worker} WHERE id = ?"

        # --- Jobs come back ---

        fence = "WHERE seq = ? AND id = ? AND status = 'running' AND worker = ? AND claim = ?"
        final = """finished_at = ?, updated_at = ?, expires_at = ?, due_at = NULL,
            status_reason = NULL, released_since = NULL, releases = 0, isolated = 0,
            version = version + 1"""
        charged = "error = ?, attempts = ?, started_at = coalesce(?, started_at)"
        started = "started_at = coalesce(?, started_at)"
        # result, started_at; now, now, expires_at; seq, id, worker, claim
        self.succeed = f"""UPDATE {job} SET status = 'succeeded', error = NULL, result = ?,
            {started}, {final} {fence}"""
        # error, attempts, started_at; now, now, expires_at; seq, id, worker, claim
        self.fail = f"UPDATE {job} SET status = 'failed', {charged}, {final} {fence}"
        # error, attempts, started_at; now, now, expires_at; seq, id, worker, claim
        self.give_up = f"UPDATE {job} SET status = 'cancelled', {charged}, {final} {fence}"
        # error; now, now, expires_at; seq, id, worker, claim
        self.expire = f"""UPDATE {job} SET status = 'expired', error = ?,
            attempt = attempt - 1, {final} {fence}"""
        # at; error, attempts, started_at; now; seq, id, worker, claim
        self.retry = f"""UPDATE {job} SET status = 'scheduled', due_at = ?,
            {charged}, updated_at = ?, released_since = NULL, releases = 0, worker = NULL,
            version = version + 1 {fence} AND NOT cancel_requested"""
        # reason, now; seq, id, worker, claim
        self.give_back = f"""UPDATE {job} SET status = 'queued', status_reason = ?,
            updated_at = ?, due_at = NULL, attempt = attempt - 1, worker = NULL,
            version = version + 1 {fence} AND NOT cancel_requested"""
        # at, reason, now, now; seq, id, worker, claim
        self.put_off = f"""UPDATE {job} SET status = 'scheduled', due_at = ?,
            status_reason = ?, updated_at = ?, released_since = coalesce(released_since, ?),
            releases = releases + 1, attempt = attempt - 1, worker = NULL,
            version = version + 1 {fence} AND NOT cancel_requested"""
        # at, reason, now; seq, id, worker, claim
        self.snooze = f"""UPDATE {job} SET status = 'scheduled', due_at = ?,
            status_reason = ?, updated_at = ?, released_since = NULL, releases = 0,
            attempt = attempt - 1, worker = NULL, version = version + 1
            {fence} AND NOT cancel_requested"""
        # Instead of a retry: error, attempts, started_at; now, now, expires_at; seq, id,
        # worker, claim
        self.stop_retry = f"""UPDATE {job} SET status = 'cancelled', {charged}, {final}
            {fence} AND cancel_requested"""
        # Instead of giving it back: now, now, expires_at; seq, id, worker, claim
        self.stop_uncharged = f"""UPDATE {job} SET status = 'cancelled',
            attempt = attempt - 1, {final} {fence} AND cancel_requested"""

        # --- Jobs go on ---

        # seq, id, worker, claim
        self.is_cancelled = f"SELECT cancel_requested FROM {job} {fence}"
        # seq, id, worker, claim
        self.logs = f"SELECT logs FROM {job} {fence}"
        # progress, logs, now; seq, id, worker, claim
        self.tell = f"""UPDATE {job} SET progress = coalesce(?, progress),
            logs = coalesce(?, logs), updated_at = ?, version = version + 1 {fence}"""

        # --- Records ---

        # id, now
        self.get = f"""SELECT {RECORD} FROM {job}
            WHERE id = ? AND (expires_at IS NULL OR expires_at > ?)"""
        # now, now, expires_at, id
        self.cancel = f"""UPDATE {job} SET status = 'cancelled', cancel_requested = 1, {final}
            WHERE id = ? AND status IN ('queued', 'scheduled')"""
        # now, id
        self.ask_to_cancel = f"""UPDATE {job} SET cancel_requested = 1, updated_at = ?,
            version = version + 1 WHERE id = ? AND status = 'running'"""
        # now, limit
        self.prune = f"""DELETE FROM {job} WHERE seq IN (SELECT seq FROM {job}
            WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT ?)"""
        # Two statements, so that each is answered by an index alone.
        self.depths = tuple(
            f"SELECT queue, count(*) FROM {job} WHERE status = '{status}' GROUP BY queue"
            for status in ("queued", "scheduled")
        )
        self.newest = f"SELECT max(seq) FROM {job}"
        # queue, newest, limit
        self.purge = tuple(
            f"""DELETE FROM {job} WHERE seq IN (SELECT seq FROM {job}
                WHERE status = '{status}' AND queue = ? AND seq <= ? LIMIT ?)"""
            for status in ("queued", "scheduled")
        )

        # --- Workers ---

        # worker, lease_until, lease
        self.register = f"INSERT OR REPLACE INTO {worker} VALUES (?, ?, ?)"
        # lease_until, lease, worker
        self.renew = f"UPDATE {worker} SET lease_until = ?, lease = ? WHERE id = ?"
        # worker
        self.forget = f"DELETE FROM {worker} WHERE id = ?"
        # worker, host, processes
        self.introduce = f"INSERT OR REPLACE INTO {holder} VALUES (?, ?, ?)"
        # host
        self.holders = f"""SELECT worker, processes FROM {holder}
            WHERE host = ? AND worker IN (SELECT id FROM {worker})"""
        # worker
        self.forget_holder = f"DELETE FROM {holder} WHERE worker = ?"
        self.forget_strangers = f"""DELETE FROM {holder}
            WHERE worker NOT IN (SELECT id FROM {worker})"""
        # now, now: of the monotonic clock
        self.lapsed = f"""SELECT id FROM {worker}
            WHERE lease_until <= ? OR lease_until > ? + lease ORDER BY id"""
        # now, now
        self.count_workers = f"""SELECT count(*) FROM {worker}
            WHERE lease_until > ? AND lease_until <= ? + lease"""
        # worker
        self.held = f"""SELECT seq, id, crashes, suspects, cancel_requested FROM {job}
            WHERE status = 'running' AND worker = ? ORDER BY seq"""
        counters = "crashes = ?, suspects = ?, attempt = attempt - 1, worker = NULL"
        # error; crashes, suspects; now, now, expires_at; seq
        self.bury = f"""UPDATE {job} SET status = 'failed', error = ?, {counters}, {final}
            WHERE seq = ?"""
        # crashes, suspects; now, now, expires_at; seq
        self.stop_held = f"""UPDATE {job} SET status = 'cancelled', {counters}, {final}
            WHERE seq = ?"""
        # status, due_at, isolated; crashes, suspects; now, seq
        self.reclaim = f"""UPDATE {job} SET status = ?, due_at = ?, isolated = isolated OR ?,
            {counters}, status_reason = 'worker_lost', updated_at = ?,
            version = version + 1 WHERE seq = ?"""

        self._job = job

    def look(self, queues: int) -> str:
        """What a waiting consumer needs to know, in one read.

        Parameters: worker, worker; each queue; isolated. Columns: end and length of the
        worker's lease, when the next job is due, whether a job may be claimed.
        """
        lease = self.lease.partition(" FROM ")[2]
        return f"""SELECT (SELECT lease_until FROM {lease}), (SELECT lease FROM {lease}),
            (SELECT min(due_at) FROM {self._job} WHERE status = 'scheduled'),
            EXISTS (SELECT 1 FROM {self._job} WHERE status = 'queued'
                AND queue IN ({_marks(queues)}) AND isolated = ?)"""

    def has_isolated(self, queues: int) -> str:
        """Whether a job must run alone, now. Parameters: each queue; now; each queue."""
        names = _marks(queues)
        return f"""SELECT EXISTS (SELECT 1 FROM {self._job} WHERE status = 'queued'
                AND queue IN ({names}) AND isolated = 1)
            OR EXISTS (SELECT 1 FROM {self._job} WHERE status = 'scheduled'
                AND due_at <= ? AND queue IN ({names}) AND isolated = 1)"""


def _prefix(namespace: str) -> str:
    """What the names of a namespace's tables begin with.

    SQLite does not tell small letters from capital ones there, and keeps what begins with
    ``sqlite_`` to itself. Two namespaces never get the same: no app's has a ``$``.
    """
    prefix = re.sub("[A-Z]", lambda letter: letter[0].lower() + "$$", namespace)
    return re.sub("^sqlite(?=_|$)", "sqlite$$$", prefix)


def _marks(count: int) -> str:
    return ", ".join("?" * count)
