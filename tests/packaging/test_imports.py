"""What importing the package costs.

Flask imports the command group on every ``flask`` command of every project in whose
environment the package is installed, whether that project uses it or not.
"""

import functools
import subprocess
import sys

import pytest


@functools.cache
def loaded_by(module):
    """Names of the modules that an interpreter of its own has after this import."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("driver", ["pika", "psycopg", "redis", "sqlite3"])
@pytest.mark.parametrize(
    "module", ["flask_taskq", "flask_taskq.cli", "flask_taskq.testing.plugin"]
)
def test_an_import_loads_no_driver(module, driver):
    """A driver is loaded when an app's URL asks for it."""
    assert driver not in loaded_by(module)


def test_the_commands_load_no_worker():
    """They import what they run when they run."""
    worker = {name for name in loaded_by("flask_taskq.cli") if ".worker" in name}
    assert worker == set()


def test_the_test_kit_can_do_without_pytest():
    """Only its plugin imports it: users of unittest have none."""
    assert "pytest" not in loaded_by("flask_taskq.testing")
    assert "pytest" in loaded_by("flask_taskq.testing.plugin")


def test_an_import_warns_of_nothing():
    """A deprecation that shows in every app is for this project to see first."""
    code = "import flask_taskq, flask_taskq.cli"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["asyncio", "flask", "msgspec", "werkzeug"])
def test_the_plugin_loads_nothing_before_a_test_uses_it(module):
    """pytest imports it in every project of its environment, and most have no jobs."""
    # pytest itself has loaded what it needs.
    assert module not in loaded_by("flask_taskq.testing.plugin") - loaded_by("pytest")
