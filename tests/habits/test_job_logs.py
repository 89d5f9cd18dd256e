"""``keep_logs``: what a job logs, kept in its record."""

import asyncio
import gc
import io
import logging
import logging.config
import threading
import weakref
from contextlib import contextmanager
from contextvars import Context

import pytest

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record_limits import KEPT_LOG_LINES
from flask_taskq.jobs.record_limits import LINE_TEXT
from flask_taskq.middleware import DEFAULT
from flask_taskq.middleware.job_logs import JobLogs
from flask_taskq.testing import drain
from tests.support.apps import declare
from tests.support.apps import Line
from tests.support.apps import make_app
from tests.support.apps import make_broker

pytestmark = pytest.mark.needs("JobLogs")

logger = logging.getLogger("shop")


@pytest.fixture(autouse=True)
def everything(caplog):
    """Loggers are as talkative as they can be."""
    caplog.set_level(logging.DEBUG)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """The logging of the process is as it was, however a job ended."""
    before = list(logging.getLogger().handlers)
    yield
    assert logging.getLogger().handlers == before


@contextmanager
def alone():
    """The root logger has no other handler: none of the test runner's, which come with each
    phase of a test."""
    root = logging.getLogger()
    others, level = list(root.handlers), root.level
    root.handlers.clear()
    try:
        yield root
    finally:
        root.handlers[:] = others
        root.setLevel(level)


@pytest.fixture
def line(clock, new_broker):
    return Line(new_broker(clock))


def run(line, fn, **options):
    """Run a function as a job; its record."""
    declared = declare(line.broker, fn, **{"actor_name": "actor", "keep_logs": True, **options})
    return line.run(declared.send())


def texts(record):
    return [item.text for item in record.logs]


@pytest.mark.every_engine
@pytest.mark.needs("CurrentJob")
def test_what_a_job_logs_is_in_its_record(line, clock):
    """By whatever logger, beside what it notes itself."""

    def load():
        logger.info("%d rows", 3)
        current_job.log("noted")
        logging.warning("odd")

    assert run(line, load).logs == (
        LogLine(clock.now(), "info", "3 rows", 1),
        LogLine(clock.now(), "info", "noted", 1),
        LogLine(clock.now(), "warning", "odd", 1),
    )


@pytest.mark.parametrize(
    ("number", "level"),
    [
        (1, "debug"),
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (25, "info"),
        (logging.WARNING, "warning"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "critical"),
        (99, "critical"),
    ],
)
@pytest.mark.every_engine
def test_a_level_of_the_apps_own_is_the_one_below_it(line, caplog, number, level):
    """Who shows the lines knows which there are."""
    caplog.set_level(1)
    [logged] = run(line, lambda: logger.log(number, "x")).logs
    assert logged.level == level


def test_by_default_nothing_is_kept(line):
    """It costs, and may be more than an app wants to keep."""
    assert run(line, lambda: logger.warning("odd"), keep_logs=False).logs == ()
    actor = declare(line.broker, lambda: logger.warning("odd"), actor_name="other")
    assert line.run(actor.send()).logs == ()


@pytest.mark.parametrize(
    ("settings", "actor", "message", "is_kept"),
    [
        (True, None, None, True),
        (True, False, None, False),
        (True, None, False, False),
        (False, True, False, False),
        (False, False, True, True),
        (False, None, True, True),
    ],
)
def test_the_message_decides_before_the_actor_and_the_settings(
    clock, settings, actor, message, is_kept, new_broker
):
    """As for all options."""
    line = Line(new_broker(clock, keep_logs=settings))
    options = {} if actor is None else {"keep_logs": actor}
    sent = {} if message is None else {"keep_logs": message}
    declared = declare(line.broker, lambda: logger.info("x"), actor_name="load", **options)

    record = line.run(declared.send_with_options(**sent))

    assert texts(record) == (["x"] if is_kept else [])


@pytest.mark.parametrize("value", [1, "yes"])
def test_a_value_that_is_neither_true_nor_false_is_refused(line, value):
    """When the actor is declared, and when a message is sent."""
    with pytest.raises(ValueError, match="keep_logs is .*; it is True or False"):
        declare(line.broker, lambda: None, actor_name="load", keep_logs=value)


def test_the_levels_of_loggers_hold(line, caplog):
    """What an app does not want to see is not kept either."""
    caplog.set_level(logging.WARNING, logger="shop")

    def load():
        logger.info("fine")
        logger.warning("odd")

    assert texts(run(line, load)) == ["odd"]


def test_an_exception_is_kept_without_the_values_of_variables(line):
    """They may be secrets."""

    def load():
        password = "canary-7f3a"  # noqa: F841
        try:
            raise LookupError("no such month")
        except LookupError:
            logger.exception("cannot load")

    [logged] = run(line, load).logs
    assert logged.level == "error"
    assert logged.text.startswith("cannot load\nTraceback (most recent call last):\n")
    assert logged.text.endswith("LookupError: no such month")
    assert "canary-7f3a" not in logged.text


def test_of_a_long_exception_the_end_is_kept(line):
    """It says what happened."""

    def load():
        try:
            raise LookupError("x" * LINE_TEXT + "the end")
        except LookupError:
            logger.exception("cannot %s", "load" * LINE_TEXT)

    [logged] = run(line, load).logs
    assert logged.text.startswith("cannot loadload")
    assert logged.text.endswith("the end")
    assert len(logged.text) == LINE_TEXT


def test_an_exception_is_left_to_other_handlers_as_it_was(line):
    """They may have formats of their own, and find the text of another one in the record."""

    def load():
        try:
            raise LookupError
        except LookupError:
            logger.exception("cannot load")

    seen = []

    class Last(logging.Handler):
        def emit(self, record):
            seen.append(record.exc_text)

    def fail():
        # From here on it comes after the one that keeps the lines.
        logging.getLogger().addHandler(Last())
        load()

    with alone():
        assert len(run(line, fail).logs) == 1
    assert seen[0] is None


def test_the_last_lines_are_kept(line):
    """A job that logs in a loop does not fill the storage."""

    def load():
        for number in range(KEPT_LOG_LINES + 20):
            logger.debug("%d", number)

    assert texts(run(line, load)) == [str(n) for n in range(20, KEPT_LOG_LINES + 20)]


@pytest.mark.needs("Retries")
@pytest.mark.parametrize("outcome", [None, ValueError("no"), SystemExit(1)])
def test_lines_about_the_job_are_not_its_own(line, outcome):
    """The package logs them around it, and they are the record itself."""

    def load():
        logger.info("x")
        if outcome is not None:
            raise outcome

    assert texts(run(line, load, max_retries=0)) == ["x"]


def test_a_failing_hook_is_not_of_the_job(clock, new_broker):
    """It is logged inside of it, by the package."""

    class Odd(Middleware):
        def before_process_message(self, broker, message):
            raise RuntimeError("no")

    line = Line(new_broker(clock, Odd()))
    assert texts(run(line, lambda: logger.info("x"))) == ["x"]


def test_a_logger_whose_name_begins_alike_is_the_apps(line):
    """Only names below that of the package are the package's."""
    assert texts(run(line, lambda: logging.getLogger("flask_taskqueue").info("x"))) == ["x"]


def test_what_the_middleware_of_an_app_logs_belongs_to_the_job(clock, new_broker):
    """It runs for it, inside of the context."""

    class Timing(Middleware):
        def before_process_message(self, broker, message):
            logger.info("before")

    line = Line(new_broker(clock, Timing()))
    assert texts(run(line, lambda: logger.info("x"))) == ["before", "x"]


def test_tasks_of_an_event_loop_log_for_their_job(line, caplog):
    """They have the context of the thread that started them."""

    caplog.set_level(logging.INFO)

    async def part(number):
        await asyncio.sleep(0)
        logger.info("part %d", number)

    async def load():
        await asyncio.gather(part(1), part(2))

    assert sorted(texts(run(line, load))) == ["part 1", "part 2"]


def test_another_thread_logs_for_no_job(line):
    """What it does is not known to be for this one."""

    def load():
        thread = threading.Thread(target=lambda: logger.info("elsewhere"))
        thread.start()
        thread.join()
        logger.info("here")

    assert texts(run(line, load)) == ["here"]


def test_jobs_at_the_same_time_keep_their_own(clock, new_broker):
    """Also where one ends before the other has logged."""
    broker = new_broker(clock)
    both = threading.Barrier(2, timeout=10)
    has_ended = threading.Event()

    @declare(broker, keep_logs=True)
    def first():
        both.wait()
        logger.info("first")

    @declare(broker, queue_name="other", keep_logs=True)
    def second():
        both.wait()
        assert has_ended.wait(10)
        logger.info("second")

    jobs = [first.send(), second.send()]

    def work(queue):
        line = Line(broker, queue)
        line.engine.workers.register(queue)
        consumer = line.engine.consumer([queue], queue)
        [delivery] = consumer.fetch(1, 0)
        consumer.settle_if_held([line.runner.run(delivery)])

    threads = [threading.Thread(target=work, args=[queue]) for queue in ("default", "other")]
    for thread in threads:
        thread.start()
    threads[0].join()
    has_ended.set()
    threads[1].join()
    assert [texts(job.refresh().record) for job in jobs] == [["first"], ["second"]]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_job_within_a_job_does_not_log_for_it(line, keeps):
    """It has a record of its own."""

    @declare(line.broker, keep_logs=keeps)
    def inner():
        logger.info("inner")

    jobs = []

    def outer():
        logger.info("before")
        jobs.append(inner.send())
        # In a context of its own, as one that is run at once.
        Context().run(Line(line.broker, "w2").run_next)
        logger.info("after")

    assert texts(run(line, outer)) == ["before", "after"]
    assert texts(jobs[0].refresh().record) == (["inner"] if keeps else [])


def test_a_record_that_cannot_be_formatted_does_not_fail_the_job(line, capsys):
    """It is reported as every handler does."""

    def load():
        logger.info("%d rows", "three")
        logger.info("on")

    with alone():
        record = run(line, load)
    assert (record.status, texts(record)) == (Status.SUCCEEDED, ["on"])
    assert "Logging error" in capsys.readouterr().err


def test_an_argument_that_logs_when_it_is_shown_does_not_go_in_circles(line):
    """Its own line is not kept, the one that it is part of is."""

    class Talkative:
        def __str__(self):
            logger.info("shown")
            return "month"

    with alone():
        record = run(line, lambda: logger.info("%s", Talkative()))
    assert texts(record) == ["month"]


def test_a_record_with_half_a_surrogate_pair_can_be_stored(line):
    """As in the name of a file that is not UTF-8."""
    assert texts(run(line, lambda: logger.info("bad \udce9"))) == ["bad \\udce9"]


def test_logging_that_is_set_up_anew_does_not_end_it(line):
    """An app may do so with each job that it imports something for."""

    def configure():
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "root": {"level": "INFO", "handlers": []},
            }
        )

    with alone():
        run(line, configure)
        record = run(line, lambda: logger.info("x"), actor_name="next")
    assert texts(record) == ["x"]


@pytest.fixture
def last_resort(monkeypatch):
    """What Python shows of an app that has not configured logging."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    monkeypatch.setattr(logging, "lastResort", handler)
    return stream


def test_warnings_of_an_app_that_has_not_configured_logging_are_shown(line, last_resort):
    """Those of the job, and those of other threads meanwhile."""

    def load():
        logger.warning("of the job")
        thread = threading.Thread(target=lambda: logger.warning("of another thread"))
        thread.start()
        thread.join()

    with alone():
        record = run(line, load)
    assert texts(record) == ["of the job"]
    assert last_resort.getvalue() == "of the job\nof another thread\n"


def test_logging_can_be_configured_while_a_job_runs(line):
    """By another thread, or by the job itself; ``basicConfig()`` does so only where the root
    logger has no handler."""
    stream = io.StringIO()

    def load():
        logging.basicConfig(stream=stream, level=logging.INFO, format="%(message)s")
        logger.info("hello")

    with alone():
        record = run(line, load)
    assert texts(record) == ["hello"]
    assert "hello\n" in stream.getvalue()


def test_what_a_logger_drops_or_keeps_to_itself_is_not_kept(line):
    """Its filters may be there for secrets; without propagation no root logger sees it."""
    secretive = logging.getLogger("shop.secretive")
    secretive.addFilter(lambda record: "secret" not in record.getMessage())
    private = logging.getLogger("shop.private")
    private.propagate = False

    def load():
        secretive.info("a secret")
        private.getChild("part").info("private")
        secretive.info("no more")

    try:
        assert texts(run(line, load)) == ["no more"]
    finally:
        secretive.filters.clear()
        private.propagate = True


def test_the_root_logger_is_left_alone(line):
    """All threads of the process share it."""
    root = logging.getLogger()
    before = list(root.handlers)
    during = []
    run(line, lambda: during.extend(root.handlers))
    assert during == before == root.handlers


def test_it_works_where_no_worker_was_started(clock):
    """``drain()`` and ``TASKQ_EAGER`` run jobs without one."""
    taskq = TaskQ(clock=clock)

    @taskq.actor(keep_logs=True)
    def load():
        logger.info("x")

    drained = make_app(taskq, "drained")
    eager = make_app(taskq, "eager", eager=True)
    with drained.app_context():
        load.send()
    assert [texts(job.record) for job in drain(drained)] == [["x"]]
    with eager.app_context():
        assert texts(load.send().refresh().record) == ["x"]


def test_two_apps_in_one_process_keep_each_line_once(clock):
    """The handler is the process's, and a job has one record."""
    taskq = TaskQ(clock=clock)
    taskq.actor(lambda: logger.info("x"), actor_name="load", keep_logs=True)
    apps = [make_app(taskq, name) for name in ("one", "two")]
    for app in apps:
        with app.app_context():
            taskq.broker.get_actor("load").send()
    assert [texts(job.record) for app in apps for job in drain(app)] == [["x"], ["x"]]


def test_nothing_holds_a_job_that_has_ended(clock):
    """Nor, by it, its app."""
    broker = make_broker(clock)
    dropped = weakref.ref(broker)
    run(Line(broker), lambda: logger.info("x"))
    del broker
    gc.collect()
    assert dropped() is None


@pytest.mark.needs("CurrentJob")
def test_without_the_middleware_its_option_is_unknown_and_all_else_works(clock, new_broker):
    """It is one of the habits, and can be left out."""
    habits = [habit for habit in DEFAULT if habit is not JobLogs]
    line = Line(new_broker(clock, habits=habits, keep_logs=True))
    with pytest.raises(ValueError, match="keep_logs"):
        declare(line.broker, lambda: None, actor_name="load", keep_logs=True)
    actor = declare(line.broker, lambda: current_job.log("noted"), actor_name="load")
    assert texts(line.run(actor.send())) == ["noted"]
