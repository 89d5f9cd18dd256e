"""Who runs jobs: a supervisor, its child processes, and the threads of each.

``runner.py`` is one delivery in and one settlement out; ``worker.py`` the threads of one
process; ``process.py`` what a child does besides; ``supervisor.py`` and what it imports are
the parent.
"""
