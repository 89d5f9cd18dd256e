"""Running jobs.

``runner.py`` runs one delivery and returns its outcome. ``inline.py`` calls it in the current
thread, for tests and ``TASKQ_EAGER``. ``threads/`` is a worker: the threads of one process.
``processes/`` is the supervisor and its child processes.
"""
