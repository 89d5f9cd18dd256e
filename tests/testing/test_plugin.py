"""The fixtures, as a project has them that has this package installed."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.rst").read_text()

CONFTEST = """
    import pytest
    from flask import Flask
    from flask_taskq import TaskQ

    taskq = TaskQ()

    @taskq.actor
    def add(a, b):
        return a + b

    @pytest.fixture(scope="SCOPE")
    def app():
        app = Flask("app")
        app.config["TASKQ_BROKER_URL"] = "memory://"
        taskq.init_app(app)

        @app.post("/sums/<int:n>")
        def create_sum(n):
            return taskq.accepted(add.send(n, n))

        return app
"""


def block(name):
    """The file of this name in the README."""
    [found] = re.findall(rf"\n( +# {name}\n(?:(?: +.*)?\n)+)", README)
    return textwrap.dedent(found)


def shown():
    """The failures that the README shows, as lines without their margins."""
    blocks = re.findall(r"\n((?: +[>E] .*\n| +E\n)+)", README)
    return [[line.strip() for line in textwrap.dedent(one).splitlines()] for one in blocks]


@pytest.fixture
def run(pytester):
    """Runs the test files of a project; warnings are errors in it, too."""

    def run(*options):
        return pytester.runpytest("-W", "error", "-p", "no:randomly", *options)

    return run


@pytest.fixture
def newcomer(pytester):
    """The project of the README; what is replaced in its ``app.py``."""
    pytester.syspathinsert()

    def write(*replaced):
        app = block("app.py")
        if replaced:
            assert replaced[0] in app
            app = app.replace(*replaced)
        files = {"tasks": block("tasks.py"), "app": app, "test_app": block("test_app.py")}
        pytester.makepyfile(**files)

    return write


def test_the_readmes_test_file_is_as_short_as_it_looks():
    """A newcomer reads it at a glance."""
    assert len(block("test_app.py").strip().splitlines()) == 15


def test_the_readmes_test_passes(newcomer, run):
    """As it stands there."""
    newcomer()
    run().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("number", "replaced"),
    [
        (
            0,
            (
                'job = build_report.send(int(request.form["month"]))\n'
                "        return taskq.accepted(job)",
                'return "", 202',
            ),
        ),
        (1, ('int(request.form["month"])', "4")),
    ],
    ids=["forgets", "mistakes"],
)
def test_the_readmes_test_fails_as_it_shows(newcomer, run, number, replaced):
    """Line by line, and with nothing of this package around it."""
    newcomer(*replaced)
    result = run()
    result.assert_outcomes(failed=1)
    lines = [line.strip() for line in result.outlines]
    expected = shown()[number]
    start = lines.index(expected[0])
    assert lines[start : start + len(expected)] == expected
    assert not any("flask_taskq" in line for line in lines[start:])


def test_both_fixtures_work_on_the_users_app(pytester, run):
    """``taskq_worker`` is a worker of the same jobs."""
    pytester.makeconftest(CONFTEST.replace("SCOPE", "function"))
    pytester.makepyfile(
        """
        from conftest import add

        def test_jobs(app, taskq_jobs):
            with app.app_context():
                add.send(1, 2)
            assert [job.get_result() for job in taskq_jobs.drain()] == [3]

        def test_worker(app, taskq_jobs, taskq_worker):
            client = app.test_client()
            with taskq_worker(threads=1):
                response = client.post("/sums/2")
            assert client.get(response.location).json["result"] == 4
            assert taskq_jobs.enqueued() == []
        """
    )
    pytester.syspathinsert()
    run().assert_outcomes(passed=2)


def test_tests_that_share_an_app_share_no_job(pytester, run):
    """An app for the whole session is often used, and its jobs are each test's own."""
    pytester.makeconftest(CONFTEST.replace("SCOPE", "session"))
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(3))
        def test_a_job(app, taskq_jobs, n):
            app.test_client().post(f"/sums/{n}")
            assert [job.message.args for job in taskq_jobs.enqueued()] == [(n, n)]
        """
    )
    run().assert_outcomes(passed=3)


def test_a_suite_can_be_spread_over_processes(pytester):
    """pytest-xdist: each process has its own apps, and no test sees another's jobs."""
    pytester.makeconftest(CONFTEST.replace("SCOPE", "session"))
    pytester.makepyfile(
        """
        import threading

        import pytest

        @pytest.mark.parametrize("n", range(20))
        def test_inline(app, taskq_jobs, n):
            client = app.test_client()
            client.post("/sums/100")
            assert taskq_jobs.follow(client, client.post(f"/sums/{n}")).json["result"] == 2 * n
            assert len(taskq_jobs.drain()) == 0

        @pytest.mark.parametrize("n", range(20))
        def test_threaded(app, taskq_jobs, taskq_worker, n):
            client = app.test_client()
            with taskq_worker():
                response = client.post(f"/sums/{n}")
            assert client.get(response.location).json["result"] == 2 * n
            assert not [one for one in threading.enumerate() if "taskq" in one.name]
        """
    )
    # Three interpreters start, and each would load the plugins of this project's own tests.
    lean = ("-p", "no:hypothesispytest", "-p", "no:randomly", "-p", "no:timeout")
    result = pytester.runpytest_subprocess("-n", "2", "-W", "error", *lean)
    result.assert_outcomes(passed=40)


def test_a_project_without_an_app_fixture_is_told(pytester, run):
    """In one line, without a traceback."""
    pytester.makepyfile("def test_it(taskq_jobs): pass")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "taskq_jobs needs a fixture named 'app' that returns the Flask app under test, with"
            ' TASKQ_BROKER_URL = "memory://" in its configuration; there is none of that name'
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_an_app_fixture_of_something_else_is_told(pytester, run):
    """Other frameworks use the name, too."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def app():
            return 5

        def test_it(taskq_jobs): pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["taskq_jobs needs a fixture*; this one returned 5"])


def test_an_app_fixture_that_lacks_another_one_says_so_itself(pytester, run):
    """The app fixture is there; it is not the one to blame."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def app(database):
            pass

        def test_it(taskq_jobs): pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'database' not found"])


def test_a_mishap_that_did_not_happen_is_an_error_of_its_test(pytester, run):
    """Though the test itself has passed."""
    pytester.makeconftest(CONFTEST.replace("SCOPE", "function"))
    pytester.makepyfile(
        """
        def test_it(taskq_jobs):
            taskq_jobs.fail_next(ValueError("no route"))
        """
    )
    result = run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*no job ran for fail_next(ValueError('no route'))*"])
