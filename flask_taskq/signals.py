"""What an app can listen to, without a middleware: blinker's signals.

The sender is the app whose job or worker it is; connect with ``sender=app`` to receive those of
no other. An exception in a receiver is logged and changes nothing for the job. Receivers run in
the thread that sends the signal, and what they do takes its time from the job, or from the
request. New arguments may be added: take ``**extra`` to be ready for them.

``message`` has the arguments of the job, which may be secrets. Results are not passed on: a
receiver that logs all that it is given should not find one.
"""

from __future__ import annotations

from typing import Final

from blinker import Namespace

_signals: Final = Namespace()

job_enqueued: Final = _signals.signal("job-enqueued")
"""A job was stored. Sent in the thread that called ``send()``, after the engine confirmed it.

:param message: the :class:`~flask_taskq.Message`.
:param delay: milliseconds before which it must not run, or None.
"""

job_started: Final = _signals.signal("job-started")
"""A worker is about to call the actor. Sent in the job's app context, once for each run.

A run that is released, because its worker stops, has no outcome to follow. A job whose
worker dies, or loses its lease, runs again: what follows may be sent again, too.

:param message: the message, with ``id``, ``attempt`` and ``crashes``.
"""

job_succeeded: Final = _signals.signal("job-succeeded")
"""The actor has returned, or the job was skipped. Sent in the job's app context, before the
outcome is stored. What fails afterwards, such as the teardown of that context, makes the run
fail after all: then :data:`job_retried` or :data:`job_failed` follows.

:param message: as for :data:`job_started`.
"""

job_retried: Final = _signals.signal("job-retried")
"""The run failed and the job will run again, unless cancelling it was asked for. Sent before
the outcome is stored.

:param message: as for :data:`job_started`.
:param exception: what was raised.
:param delay: milliseconds until it runs again.
"""

job_failed: Final = _signals.signal("job-failed")
"""The run failed and none will follow. Sent before the outcome is stored.

It is not sent for a job that fails without a run: because its process died too often, for
which see :data:`child_died`, because no worker knows its actor, or because its stored message
is damaged.

:param message: as for :data:`job_started`.
:param exception: what was raised.
"""

job_cancelled: Final = _signals.signal("job-cancelled")
"""A job that was waiting was cancelled, or a run gave its job up: by ``Cancel``, or by an
exception of ``discard_on``. Sent in the thread that called ``cancel()``, or before the outcome
of the run is stored. For a job that would have run again, had it not been cancelled while it
ran, it is sent by the worker when that is stored, outside of the job's context.

:param message: the :class:`~flask_taskq.Message`, of a run as for :data:`job_started`.
"""

job_expired: Final = _signals.signal("job-expired")
"""A job was too old when its turn came; its actor did not run. Sent before that is stored.

:param message: as for :data:`job_started`.
"""

worker_started: Final = _signals.signal("worker-started")
"""The worker of a process has started. Sent in that process.

:param worker_id: its name; no other worker has or had it.
:param queues: names of the queues that it serves.
"""

worker_stopping: Final = _signals.signal("worker-stopping")
"""The worker of a process is about to stop. Jobs may still be running in it.

:param worker_id: its name.
:param queues: names of the queues that it served.
"""

child_died: Final = _signals.signal("child-died")
"""A worker process has died without an order to end. Sent in a thread of its own, in
another process of the same ``flask taskq worker``: one that was ready then, or else the next
that is. If that one dies, too, before it has received this, the signal is lost.

:param worker_id: the name of the worker that it had.
:param exit_code: negative for the number of the signal that killed it.
:param job_ids: the jobs that it was running, which run again or have failed.
"""
