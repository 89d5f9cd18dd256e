"""Middleware and modules that a configuration names."""

import sys

import pytest
from flask import current_app
from flask import Flask

from flask_taskq import Middleware
from flask_taskq import TaskQ
from flask_taskq.app.context import AppContext
from flask_taskq.app.loading import import_actors
from flask_taskq.app.signal_middleware import AppSignals
from flask_taskq.cli import taskq as group
from flask_taskq.errors import ConfigurationError
from flask_taskq.middleware import DEFAULT
from flask_taskq.middleware.current_job import CurrentJob
from flask_taskq.middleware.retries import Retries
from flask_taskq.testing import drain
from tests.support.apps import make_app


class Timing(Middleware):
    """A middleware of an app."""

    def __repr__(self):  # in the names of tests, on which all processes must agree
        return "Timing()"


class Demanding(Middleware):
    def __init__(self, limit):
        self.limit = limit


timing = Timing()
NAME = f"{__name__}.Timing"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """This module, under the name that it has here."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__))
    if sys.modules[__name__] is None:
        monkeypatch.setitem(sys.modules, __name__, type(sys)(__name__))
    vars(sys.modules[__name__]).update(Timing=Timing, timing=timing, Demanding=Demanding)


def chain(**config):
    """An app's middleware, without that which knows the app and is always there."""
    taskq = TaskQ()
    context, signals, *others = taskq.broker_for(make_app(taskq, **config)).middleware
    assert (type(context), type(signals)) == (AppContext, AppSignals)
    return others


def classes(**config):
    return [type(one) for one in chain(**config)]


def test_without_configuration_there_are_the_defaults():
    """In their order, within the app's context."""
    assert classes() == list(DEFAULT)


@pytest.mark.parametrize(
    "entries",
    [[Timing], [timing], (NAME,), NAME, f" {NAME},", [NAME.replace(".Timing", ":Timing")]],
    ids=str,
)
def test_an_apps_middleware_comes_after_the_defaults(entries):
    """As an instance, a class, a dotted name, or as text."""
    assert classes(middleware=entries) == [*DEFAULT, Timing]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], []),
        ("", []),
        (None, list(DEFAULT)),
        ([Timing], [Timing]),
        ("flask_taskq.middleware.retries.Retries", [Retries]),
    ],
    ids=str,
)
def test_the_defaults_can_be_replaced(entries, expected):
    """By none at all, too."""
    assert classes(default_middleware=entries) == expected


def test_an_instance_is_taken_as_it_is():
    """With what it was made with, also under its dotted name."""
    one = Demanding(3)
    assert chain(default_middleware=[one, f"{__name__}.timing"]) == [one, timing]


@pytest.mark.parametrize("key", ["middleware", "default_middleware"])
@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("nowhere.Timing", "'nowhere.Timing' cannot be imported"),
        (f"{__name__}.Nothing", "Nothing' cannot be imported"),
        ("flask_taskq.TaskQ", "'flask_taskq.TaskQ' is no middleware"),
        (3.5, "is no middleware.*dotted name"),
        (int, "<class 'int'> is no middleware"),
        (Demanding, "without arguments.*give an instance"),
    ],
    ids=str,
)
def test_an_entry_that_cannot_be_used_is_named(key, entry, text):
    """With its key; the app is not set up."""
    app = Flask("app")
    app.config.update({"TASKQ_BROKER_URL": "memory://", f"TASKQ_{key.upper()}": [entry]})
    with pytest.raises(ConfigurationError, match=f"TASKQ_{key.upper()}: .*{text}"):
        TaskQ(app)
    assert "taskq" not in app.extensions


@pytest.mark.parametrize("value", [5, Timing, timing], ids=str)
def test_what_is_no_list_is_refused(value):
    """The error names the key."""
    with pytest.raises(ConfigurationError, match="TASKQ_MIDDLEWARE"):
        make_app(TaskQ(), middleware=value)


@pytest.mark.parametrize("dropped", [*DEFAULT, *[None]], ids=str)
def test_without_any_one_of_the_defaults_a_job_runs(dropped):
    """No habit needs another one."""
    taskq = TaskQ()

    @taskq.actor
    def add(a, b):
        return current_app.name, a + b

    rest = [habit for habit in DEFAULT if habit is not dropped]
    app = make_app(taskq, default_middleware=rest)
    with app.app_context():
        job = add.send(1, 2)
    drain(app)
    assert job.get_result() == ["app", 3]


@pytest.mark.needs("CurrentJob")
def test_current_job_is_one_of_the_defaults():
    """Actors count on it."""
    assert CurrentJob in DEFAULT


# Modules


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``shop`` whose modules note that they were imported."""
    files = {
        "shop/__init__.py": "",
        "shop/mail.py": "",
        "shop/__main__.py": "raise SystemExit('run')",
        "shop/deep/__init__.py": "",
        "shop/deep/stock.py": "",
        "shop/deep/plain.txt": "",
        "broken/__init__.py": "",
        "broken/deep/__init__.py": "import nowhere",
        "raising.py": "1 / 0",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def imported():
    return {name for name in sys.modules if name.split(".")[0] == "shop"}


def test_a_module_is_imported(package):
    """With the packages that it is in, and nothing else."""
    import_actors(["shop.mail"])
    assert imported() == {"shop", "shop.mail"}


def test_a_star_is_a_package_and_all_below_it(package):
    """But no program, which would run."""
    import_actors(["shop.*"])
    assert imported() == {"shop", "shop.mail", "shop.deep", "shop.deep.stock"}


@pytest.mark.parametrize(
    "name", ["nowhere", "nowhere.*", "shop.nothing", "", ".mail", "broken.*"]
)
def test_a_module_that_cannot_be_imported_is_named(package, name):
    """Also where it is the one below it that cannot."""
    with pytest.raises(ConfigurationError, match="TASKQ_ACTORS: ") as caught:
        import_actors([name])
    assert repr(name) in str(caught.value)


def test_an_error_of_a_module_is_its_own(package):
    """Its traceback says more than we could."""
    with pytest.raises(ZeroDivisionError):
        import_actors(["raising"])


def test_the_command_lists_actors_of_these_modules(package):
    """Though the app does not import them."""
    (package / "shop" / "jobs.py").write_text(
        "from flask import current_app\n"
        "taskq = current_app.extensions['taskq']\n"
        "@taskq.actor\n"
        "def ship(): ...\n"
    )
    app = make_app(TaskQ(), actors="shop.jobs")
    result = app.test_cli_runner().invoke(group, ["actors"])
    assert (result.exit_code, "ship" in result.output) == (0, True)


def test_the_command_names_a_module_that_cannot_be_imported():
    """Without a traceback."""
    result = make_app(TaskQ(), actors=["nowhere"]).test_cli_runner().invoke(group, ["actors"])
    assert result.exit_code == 1
    assert "Error: TASKQ_ACTORS: 'nowhere' cannot be imported" in result.output
