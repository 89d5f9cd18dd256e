"""``TaskQ``: actors of the extension, brokers of apps."""

import asyncio
import functools
import gc
import threading
import weakref

import pytest
from flask import Blueprint
from flask import current_app
from flask import Flask

from flask_taskq import Actor
from flask_taskq import AsyncActor
from flask_taskq import Message
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.errors import ConfigurationError
from flask_taskq.errors import JobNotFound
from flask_taskq.testing import drain
from tests.support.apps import Line
from tests.support.apps import make_app


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def app(taskq):
    return make_app(taskq)


# Setting up


def test_an_app_can_be_given_at_once():
    """For programs without a factory."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = "memory://"
    taskq = TaskQ(app)
    assert app.extensions["taskq"] is taskq


def test_the_class_of_an_actor_is_what_checkers_are_told(taskq):
    """A coroutine function's actor gives a coroutine when it is called."""

    async def waits(n):
        return n

    def works(n):
        return n

    assert type(taskq.actor(works)) is Actor
    actor = taskq.actor(actor_name="other")(waits)
    assert type(actor) is AsyncActor
    assert asyncio.run(actor(3)) == 3


def test_an_app_can_be_given_later(taskq):
    """For factories."""
    app = make_app(taskq)
    assert app.extensions["taskq"] is taskq
    assert taskq.broker_for(app).settings.broker_url == "memory://"


def test_setting_up_does_no_io(tmp_path, taskq):
    """Not even for the default engine: the file appears when it is used."""
    app = Flask("app", instance_path=str(tmp_path / "instance"))
    taskq.init_app(app)
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_a_file_in_the_instance_folder(tmp_path, taskq):
    """With nothing configured."""
    app = Flask("app", instance_path=str(tmp_path))
    taskq.init_app(app)
    url = taskq.broker_for(app).settings.broker_url
    assert url == f"sqlite:///{tmp_path}/taskq.sqlite3"


def test_an_app_cannot_be_set_up_twice(app, taskq):
    """The error says which call is one too many."""
    with pytest.raises(RuntimeError, match="'app' already: call init_app.*once; TaskQ.app."):
        taskq.init_app(app)


def test_an_app_cannot_have_two_taskqs(app):
    """The error says which to use."""
    with pytest.raises(RuntimeError, match="'app' already: import and use that one"):
        TaskQ().init_app(app)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"lease": 10}, "TASKQ_LEASE"),
        ({"max_retries": "many"}, "TASKQ_MAX_RETRIES"),
        ({"broker_url": "amqp://user:secret@host"}, "TASKQ_BROKER_URL"),
        ({"jobs_url_prefix": "jobs"}, "TASKQ_JOBS_URL_PREFIX"),
    ],
)
def test_a_wrong_key_is_named(taskq, config, named):
    """The app is left as it was, and a password is not repeated."""
    app = Flask("app")
    with pytest.raises(ConfigurationError, match=named) as caught:
        app.config.update({f"TASKQ_{key.upper()}": value for key, value in config.items()})
        taskq.init_app(app)
    assert "secret" not in str(caught.value)
    assert "taskq" not in app.extensions
    assert "taskq" not in app.blueprints


def test_an_unknown_key_is_a_warning_with_the_nearest_name(taskq):
    """A typing error must not look like a key that has no effect."""
    with pytest.warns(UserWarning, match="TASKQ_MAX_RETRY is no .*TASKQ_MAX_RETRIES"):
        make_app(taskq, max_retry=3)


def test_keys_can_come_from_the_environment(taskq, monkeypatch):
    """In Flask's own way."""
    monkeypatch.setenv("FLASK_TASKQ_BROKER_URL", "memory://")
    monkeypatch.setenv("FLASK_TASKQ_MAX_RETRIES", "0")
    monkeypatch.setenv("FLASK_TASKQ_EXPOSE", "result,error")
    app = Flask("app")
    app.config.from_prefixed_env()
    taskq.init_app(app)
    settings = taskq.broker_for(app).settings
    assert (settings.max_retries, settings.expose) == (0, ("result", "error"))


@pytest.mark.parametrize("rule", ["/jobs", "/jobs/", "/jobs/<int:number>", "/jobs/new"])
def test_a_route_under_the_prefix_is_refused(taskq, rule):
    """One of the two would hide the other."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = "memory://"
    app.add_url_rule(rule, endpoint="mine", view_func=lambda **_: "")
    with pytest.raises(ConfigurationError, match=f"{rule}.*'mine'.*choose another prefix"):
        taskq.init_app(app)
    assert "taskq" not in app.extensions


@pytest.mark.parametrize("rule", ["/", "/jobsite", "/api/jobs", "/<name>"])
def test_a_route_elsewhere_is_no_matter(taskq, rule):
    """A common beginning is not the prefix."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = "memory://"
    app.add_url_rule(rule, endpoint="mine", view_func=lambda **_: "")
    taskq.init_app(app)


def test_a_route_under_another_prefix_is_no_matter(taskq):
    """That is what choosing another prefix does."""
    app = Flask("app")
    app.config.update(TASKQ_BROKER_URL="memory://", TASKQ_JOBS_URL_PREFIX="/tasks")
    app.add_url_rule("/jobs", endpoint="mine", view_func=lambda: "")
    taskq.init_app(app)
    assert "taskq" in app.blueprints


def test_a_name_that_the_extension_needs_is_flasks_error(taskq):
    """Flask says which blueprint has it."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = "memory://"
    app.register_blueprint(Blueprint("taskq", "mine"))
    with pytest.raises(ValueError, match="'taskq' is already registered"):
        taskq.init_app(app)


# Actors


def test_an_actor_can_be_declared_bare(taskq):
    """Its name is the function's."""

    @taskq.actor
    def add(a, b):
        return a + b

    assert (add.actor_name, add.queue_name, add.priority) == ("add", "default", 0)
    assert add(1, 2) == 3


def test_an_actor_can_be_declared_with_arguments(taskq):
    """What is no argument of its own is an option of a middleware."""

    @taskq.actor(actor_name="sum", queue_name="fast", priority=-3, max_retries=1)
    def add(a, b):
        return a + b

    assert (add.actor_name, add.queue_name, add.priority) == ("sum", "fast", -3)
    assert add.options == {"max_retries": 1}


def test_an_actor_without_a_name_is_told_to_be_given_one(taskq):
    """A partial function has none."""
    with pytest.raises(TypeError, match="a partial has no name: .* actor_name="):
        taskq.actor(functools.partial(print, 1))
    assert taskq.actor(actor_name="show")(functools.partial(print, 1)).actor_name == "show"


def test_an_actor_declared_before_any_app_is_known_to_it(taskq):
    """Declaring needs no app."""
    add = taskq.actor(lambda: 1, actor_name="add")
    broker = taskq.broker_for(make_app(taskq))
    assert broker.get_actor("add") is add


def test_an_actor_declared_after_the_app_is_known_to_it(app, taskq):
    """A module may be imported late."""
    add = taskq.actor(lambda: 1, actor_name="add", queue_name="slow")
    broker = taskq.broker_for(app)
    assert broker.get_actor("add") is add
    assert broker.get_declared_queues() == {"slow"}


def test_a_name_cannot_be_declared_twice(taskq):
    """Before there is an app, too."""
    taskq.actor(lambda: 1, actor_name="add")
    with pytest.raises(ValueError, match="'add' is declared already"):
        taskq.actor(lambda: 2, actor_name="add")


def run_module(taskq, name, source, path=None):
    """Run the source of a module, as an import of it does; what it has defined."""
    namespace = {"taskq": taskq, "__name__": name}
    exec(compile(source, path or f"/srv/shop/{name}.py", "exec"), namespace)
    return namespace


SEND_MAIL = "@taskq.actor\ndef send_mail(): return __name__\n"


def test_who_declares_a_name_twice_is_told_both_places(taskq):
    """And how to choose another name. The first one stays as it is."""
    first = run_module(taskq, "orders", SEND_MAIL)["send_mail"]
    with pytest.raises(ValueError) as caught:
        run_module(taskq, "invoices", SEND_MAIL)
    assert str(caught.value) == (
        "an actor named 'send_mail' is declared already: orders.send_mail;"
        " invoices.send_mail needs another name, which actor_name=... gives it"
    )
    app = make_app(taskq)
    with app.app_context():
        job = first.send()
    drain(app)
    assert job.get_result() == "orders"


def test_two_functions_of_one_name_in_one_module_are_told_apart(taskq):
    """The place is not said twice."""
    with pytest.raises(ValueError, match="already: shop.send_mail; another function of this"):
        run_module(taskq, "shop", SEND_MAIL + SEND_MAIL)


FACTORY = """
from functools import wraps

def decorate(fn):
    @wraps(fn)
    def wrapper(): return fn()
    return wrapper

def create_app():
    @taskq.actor
    @decorate
    def send_mail(): ...
"""


def test_an_actor_in_a_factory_that_runs_twice_gets_a_hint(taskq):
    """As it does in tests. Actors belong to the module, like the TaskQ."""
    create_app = run_module(taskq, "shop", FACTORY)["create_app"]
    create_app()
    with pytest.raises(ValueError, match="create_app.<locals>.send_mail, and the function .*"):
        create_app()
    with pytest.raises(ValueError, match="Declare actors at the level of a module and not in"):
        create_app()


def test_two_wrapped_functions_of_a_factory_are_not_taken_for_one(taskq):
    """The wrapper is the same code, and what is wrapped is not."""
    source = FACTORY + FACTORY.partition("def create_app():")[2].replace("mail", "mail2")
    source = source.replace("@taskq.actor", "@taskq.actor(actor_name='send')")
    create_app = run_module(taskq, "shop", source)["create_app"]
    with pytest.raises(ValueError, match="send_mail2 needs another name"):
        create_app()


def test_an_actor_whose_file_is_imported_twice_gets_a_hint(taskq):
    """Once as a program, and once by its name."""
    run_module(taskq, "__main__", SEND_MAIL, "/srv/shop/app.py")
    with pytest.raises(ValueError, match="__main__.send_mail, and its file was imported again"):
        run_module(taskq, "app", SEND_MAIL, "/srv/shop/app.py")


def test_a_class_that_is_declared_twice_is_named(taskq):
    """By its method."""
    source = "from flask_taskq import GenericActor\nclass Mail(GenericActor, taskq=taskq):\n"
    source += "    def perform(self): ...\n"
    run_module(taskq, "orders", source)
    with pytest.raises(ValueError, match="orders.Mail.perform; invoices.Mail.perform needs"):
        run_module(taskq, "invoices", source)


def test_a_factory_with_a_taskq_of_its_own_can_run_again():
    """Each has its actors."""
    for _ in range(2):
        taskq = TaskQ()
        run_module(taskq, "shop", FACTORY)["create_app"]()
        make_app(taskq)


@pytest.mark.needs("Retries")
def test_an_unknown_option_is_refused_when_the_app_is_set_up(taskq):
    """Only its middleware knows which there are."""
    taskq.actor(lambda: 1, actor_name="add", max_retires=1)
    with pytest.raises(ValueError, match="did you mean 'max_retries'"):
        make_app(taskq)


@pytest.mark.needs("Retries")
def test_an_unknown_option_is_refused_at_once_when_there_is_an_app(app, taskq):
    """And the name is free again."""
    with pytest.raises(ValueError, match="did you mean 'max_retries'"):
        taskq.actor(lambda: 1, actor_name="add", max_retires=1)
    taskq.actor(lambda: 1, actor_name="add")


# The current app


def test_sending_outside_of_an_app_context_says_so(app, taskq):
    """The error names the ways into one."""
    add = taskq.actor(lambda: 1, actor_name="add")
    with pytest.raises(RuntimeError, match=r"with app.app_context\(\)"):
        add.send()


def test_sending_in_an_app_without_the_extension_says_so(taskq):
    """The error names the app and what to call."""
    add = taskq.actor(lambda: 1, actor_name="add")
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match="'bare'.*init_app"):
        add.send()


def test_sending_in_a_thread_needs_a_context_of_its_own(app, taskq):
    """As everything of Flask's does."""
    add = taskq.actor(lambda: 1, actor_name="add")
    errors = []

    def send():
        try:
            add.send()
        except RuntimeError as error:
            errors.append(error)

    with app.app_context():
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_many_messages_are_sent_in_one_step(app, taskq):
    """They may be of different actors."""
    add = taskq.actor(lambda x: x, actor_name="add")
    other = taskq.actor(lambda: 7, actor_name="other")
    with app.app_context():
        jobs = taskq.send_many([add.message(1), other.message(), add.message(2)])
        drain(app)
        assert [job.get_result() for job in jobs] == [1, 7, 2]


def test_a_job_can_be_looked_up_by_its_id(app, taskq):
    """In another process, perhaps."""
    add = taskq.actor(lambda: 1, actor_name="add")
    with app.app_context():
        job = taskq.job(add.send().id)
        assert job.status is Status.QUEUED
        drain(app)
        assert job.get_result() == 1


@pytest.mark.parametrize("job_id", ["f" * 32, "7", "", "A" * 32, "0" * 32 + "\n", "../x"])
def test_an_id_that_no_job_has_is_not_found(app, taskq, job_id):
    """Whatever its form."""
    with app.app_context(), pytest.raises(JobNotFound):
        taskq.job(job_id)


# Several apps


def test_two_apps_have_brokers_of_their_own(taskq):
    """A job of one is no job of the other."""
    add = taskq.actor(lambda: 1, actor_name="add")
    one, two = make_app(taskq, "one"), make_app(taskq, "two")
    with one.app_context():
        job = add.send()
    with two.app_context(), pytest.raises(JobNotFound):
        taskq.job(job.id)
    assert drain(two) == []
    assert [ran.id for ran in drain(one)] == [job.id]


@pytest.mark.needs("Retries")
def test_two_apps_have_settings_of_their_own(taskq):
    """Their actors are the same."""
    fail = taskq.actor(lambda: 1 / 0, actor_name="fail")
    one, two = make_app(taskq, "one", max_retries=0), make_app(taskq, "two")
    statuses = []
    for app in (one, two):
        with app.app_context():
            fail.send()
        statuses.append(drain(app, raise_failures=False)[0].status)
    assert statuses == [Status.FAILED, Status.SCHEDULED]


def test_jobs_of_two_apps_see_their_own_current_app(taskq):
    """In one process, one after the other and both at the same time."""
    both = threading.Barrier(2, timeout=10)

    @taskq.actor
    def name():
        both.wait()
        return current_app.name

    apps = [make_app(taskq, "one"), make_app(taskq, "two")]
    jobs = []
    for app in apps:
        with app.app_context():
            jobs.append(name.send())
    threads = [threading.Thread(target=drain, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [job.get_result() for job in jobs] == ["one", "two"]


def test_a_job_that_sends_another_sends_it_to_its_own_app(taskq):
    """Also when it runs while another app is current."""
    child = taskq.actor(lambda: current_app.name, actor_name="child")
    parent = taskq.actor(lambda: child.send().id, actor_name="parent")
    one, two = make_app(taskq, "one"), make_app(taskq, "two")
    with one.app_context():
        parent.send()
    with two.app_context():
        ran = drain(one)
    assert [job.get_result() for job in ran][1] == "one"
    assert drain(two) == []


def test_an_app_can_have_a_taskq_of_its_own(clock):
    """Two of them do not know each other's actors."""
    one, two = TaskQ(clock=clock), TaskQ(clock=clock)
    one.actor(lambda: 1, actor_name="add")
    two.actor(lambda: 2, actor_name="add")
    make_app(one)
    make_app(two)


# Dropped apps


def test_a_dropped_app_is_collected(taskq):
    """Test suites make thousands."""
    taskq.actor(lambda: 1, actor_name="add")
    app = weakref.ref(make_app(taskq))
    gc.collect()
    assert app() is None
    assert len(taskq._brokers) == 0


def test_a_dropped_app_is_collected_after_a_request_and_a_job(taskq):
    """Neither keeps it alive, nor does the handle on its job."""

    @taskq.actor
    def work():
        return current_app.name

    app = make_app(taskq)

    @app.post("/")
    def send():
        return taskq.accepted(work.send())

    client = app.test_client()
    url = client.post("/").headers["Location"]
    jobs = drain(app)
    assert client.get(url).json["result"] == "app"
    reference = weakref.ref(app)
    del app, client, send
    gc.collect()
    assert reference() is None
    assert jobs[0].get_result() == "app"


def test_a_dropped_app_is_collected_with_a_taskq_of_its_own():
    """They refer to each other, and go together."""
    app = Flask("app")
    app.config["TASKQ_BROKER_URL"] = "memory://"
    TaskQ(app)
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


def test_the_engine_is_closed_when_its_app_is_dropped(taskq, monkeypatch):
    """It may hold connections."""
    closed = []
    monkeypatch.setattr(
        "flask_taskq.engines.memory.MemoryEngine.close", lambda self: closed.append(self)
    )
    app = make_app(taskq)
    engine = taskq.broker_for(app).engine
    del app
    gc.collect()
    # Apps of other tests may be collected with it.
    assert closed.count(engine) == 1


@pytest.mark.needs("Retries")
def test_a_job_whose_app_is_gone_is_not_run(taskq):
    """It fails with a text that says so."""
    add = taskq.actor(lambda: 1, actor_name="add", max_retries=0)
    app = make_app(taskq)
    broker = taskq.broker_for(app)
    with app.app_context():
        job = add.send()
    del app
    gc.collect()
    record = Line(broker).run(job)
    assert "does not exist any more" in record.error.message


def test_a_message_made_in_one_app_can_be_sent_in_another(taskq):
    """It carries no app."""
    add = taskq.actor(lambda: 1, actor_name="add")
    message = add.message()
    assert isinstance(message, Message)
    for name in ("one", "two"):
        app = make_app(taskq, name)
        with app.app_context():
            assert taskq.send_many([message])[0].id == message.message_id
