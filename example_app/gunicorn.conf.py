"""gunicorn --config example_app/gunicorn.conf.py "example_app:create_app()"

The worker is a program of its own beside it: flask --app example_app taskq worker
"""

import os

bind = os.environ.get("BIND", "127.0.0.1:5000")

# A view sends a job and answers: it waits for the disk or the network, and not for the CPU.
# So threads serve many browsers that poll, and a second process is for the second core.
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
threads = 8

# Each process builds the app after the fork. Built before, all of them would inherit one
# state: connections, locks that a thread held at that moment, seeds of random numbers.
# (flask_taskq opens its connections on first use and again after a fork, so "preload_app"
# does work. Other extensions of an app may be less careful, and SIGHUP loads no new code.)
preload_app = False

# Newer versions put one into the home folder, and nothing here uses it.
control_socket_disable = True
