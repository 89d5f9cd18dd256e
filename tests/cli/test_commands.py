"""``flask taskq``, up to where a worker begins."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo

from flask_taskq import TaskQ
from flask_taskq.cli import taskq as group
from flask_taskq.cli import worker
from tests.support.apps import make_app


@pytest.fixture
def taskq():
    return TaskQ()


def invoke(app, *args):
    return app.test_cli_runner().invoke(group, args)


# actors


def test_actors_are_listed_with_queue_and_priority(taskq):
    """In the order of their names, in columns."""
    taskq.actor(lambda: 1, actor_name="send_mail", queue_name="mail", priority=-5)
    taskq.actor(lambda: 1, actor_name="add")
    result = invoke(make_app(taskq), "actors")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "ACTOR      QUEUE    PRIORITY",
        "add        default  0",
        "send_mail  mail     -5",
    ]


def test_an_app_without_actors_has_an_empty_list(taskq):
    """That is no error."""
    result = invoke(make_app(taskq), "actors")
    assert (result.exit_code, result.output) == (0, "ACTOR  QUEUE  PRIORITY\n")


def test_listing_actors_opens_no_engine(tmp_path, taskq):
    """Not even the file is made."""
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    taskq.init_app(app)
    assert invoke(app, "actors").exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_an_app_without_the_extension_is_told_what_to_call():
    """And not shown a traceback."""
    result = invoke(Flask("bare"), "actors")
    assert result.exit_code == 1
    assert "the app 'bare' has no TaskQ: call TaskQ(app)" in result.output


def test_the_commands_are_part_of_flasks(tmp_path):
    """By an entry point, in a process of its own."""
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\n"
        "from flask_taskq import TaskQ\n"
        "taskq = TaskQ()\n"
        "@taskq.actor\n"
        "def ship(): ...\n"
        "def create_app():\n"
        "    app = Flask(__name__)\n"
        "    taskq.init_app(app)\n"
        "    return app\n"
    )
    code = "import sys; from flask.cli import main; sys.argv[0] = 'flask'; main()"
    if not _is_installed():
        code = (
            "import sys; from flask.cli import FlaskGroup; from flask_taskq.cli import taskq;"
            " group = FlaskGroup(); group.add_command(taskq); group()"
        )
    done = subprocess.run(
        [sys.executable, "-c", code, "--app", "shop", "taskq", "actors"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ship   default  0" in done.stdout


def _is_installed():
    from importlib.metadata import entry_points

    return any(point.name == "taskq" for point in entry_points(group="flask.commands"))


# worker


def run_worker(args):
    """As ``flask --app app taskq worker`` does."""
    return CliRunner().invoke(worker, args, obj=ScriptInfo(app_import_path="app"))


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--colour", "red"], "--colour"),
        (["now"], "now"),
        (["-p", "0"], "-p"),
        (["-p", "many"], "-p"),
        (["-t", "0"], "-t"),
        (["--grace", "-1"], "--grace"),
        (["--connect-timeout", "-1"], "--connect-timeout"),
        (["--max-jobs", "0"], "--max-jobs"),
        (["--max-jobs", "1.5"], "--max-jobs"),
        (["--max-memory", ""], "--max-memory"),
        (["--max-memory", "0"], "--max-memory"),
        (["--max-memory", "-1M"], "--max-memory"),
        (["--max-memory", "1.5G"], "--max-memory"),
        (["--max-memory", "512MB"], "--max-memory"),
        (["--max-memory", "M"], "--max-memory"),
        (["--max-memory", "٣M"], "--max-memory"),
        (["--max-memory", "512M\n"], "--max-memory"),
        (["--log-level", "loud"], "--log-level"),
        (["-Q", ""], "--queues"),
        (["-Q", "a,,b"], "--queues"),
        (["-Q", "a b"], "--queues"),
        (["-Q", "a\nb"], "--queues"),
        (["-Q", "1st"], "--queues"),
        (["--pid-file", "/"], "--pid-file"),
    ],
)
def test_a_wrong_option_is_a_wrong_usage(args, named):
    """Exit code 2, and a text that names it; nothing is started."""
    result = run_worker(args)
    assert result.exit_code == 2
    assert named in result.output


@pytest.fixture
def started(monkeypatch):
    """Catches what the supervisor would have been started with."""
    from flask_taskq.worker import __main__ as program
    from flask_taskq.worker.processes import check_command

    found = []

    def check_app(options, clock, show):
        found.append(options)
        show("warning", "no\x1b[2J\nsuch key")
        return 2

    monkeypatch.setattr(program, "become_supervisor", lambda one: found.append(one.options))
    monkeypatch.setattr(check_command, "check", check_app)
    monkeypatch.setattr(
        "flask_taskq.worker.log_output.configure_logging", lambda level, log_format: None
    )
    return found


def test_the_defaults_are_those_of_the_documentation(started):
    """A process for each CPU that may be used, eight threads in each."""
    from flask_taskq.cli.cpus import count_cpus

    result = run_worker([])
    [options] = started
    assert result.exit_code == 0
    assert (options.processes, options.processes_reason) == count_cpus()
    assert options.threads == 8
    assert (options.queues, options.grace, options.connect_timeout) == (None, None, 60_000)


def test_options_reach_the_supervisor(started):
    """Queues are separated by commas, and blanks around them do not count."""
    args = ["-p", "3", "-t", "2", "-Q", "a, b", "--grace", "0", "--connect-timeout", "0"]
    result = run_worker(args)
    [options] = started
    assert result.exit_code == 0
    assert (options.processes, options.threads) == (3, 2)
    assert options.processes_reason == "--processes"
    assert (options.queues, options.grace, options.connect_timeout) == (["a", "b"], 0, 0)


def test_processes_are_not_replaced_without_being_asked(started):
    """However much they have run, and however large they are."""
    run_worker([])
    [options] = started
    assert (options.max_jobs, options.max_memory) == (None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("536870912", 512 << 20),
        ("64K", 64 << 10),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("2G", 2 << 30),
    ],
)
def test_a_size_is_given_in_bytes_or_with_a_unit(started, text, size):
    """The units are powers of 1024."""
    args = ["--max-jobs", "1000", "--max-memory", text]
    assert run_worker(args).exit_code == 0
    [options] = started
    assert (options.max_jobs, options.max_memory) == (1000, size)


def test_the_exit_code_is_the_supervisors(started):
    """Here that of a check which failed."""
    assert run_worker(["--check"]).exit_code == 2


def test_what_a_check_finds_is_listed_without_control_characters(started):
    """On standard output, in two columns."""
    output = run_worker(["--check"]).stdout
    assert output.splitlines() == [r"warning     no\x1b[2J", "            such key"]


def test_the_factory_of_a_group_wins_over_the_environment(started):
    """As it does in Flask: a child is given the one, and not the other."""
    info = ScriptInfo(app_import_path="elsewhere", create_app=make_app)
    assert CliRunner().invoke(worker, [], obj=info).exit_code == 0
    [options] = started
    assert "--factory" in options.command and "elsewhere" not in options.command


@pytest.mark.parametrize("command", ["worker", "actors", "job"])
def test_every_option_is_explained(command):
    """By ``--help``."""
    for parameter in group.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


# The cost of an import


def test_the_commands_import_what_they_run_only_when_they_run():
    """Not even the extension: most projects of an environment have no jobs."""
    code = (
        "import sys, flask_taskq.cli\n"
        "print(*sorted(name for name in sys.modules if name.startswith('flask_taskq.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    assert not loaded & {"engines", "extension", "testing", "worker"}
