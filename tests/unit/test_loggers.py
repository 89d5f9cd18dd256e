"""What is wrong with an app's logging harms nobody who uses the package's loggers."""

import importlib
import io
import logging
import logging.config
import pkgutil
from concurrent.futures import Future

import pytest

import flask_taskq
from flask_taskq import loggers
from flask_taskq.loggers import get_logger
from flask_taskq.loggers import GuardedLogger
from flask_taskq.logs import TextFormatter
from flask_taskq.middleware import job_logs

NAME = "flask_taskq.of_a_test"


@pytest.fixture
def last_resort(monkeypatch):
    """What Python shows when no handler does."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    monkeypatch.setattr(logging, "lastResort", handler)
    return stream


@pytest.fixture
def logger(monkeypatch):
    logger = get_logger(NAME)
    logger.setLevel(logging.INFO)
    monkeypatch.setattr(GuardedLogger, "stays_enabled", False)
    yield logger
    logger.handlers.clear()
    logger.filters.clear()
    logger.setLevel(logging.NOTSET)
    logger.disabled = False


class Raising(logging.Handler):
    """A handler that needs what a job does not have."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def emit(self, record):
        raise self._error


def raising_filter(error):
    future = Future()
    future.set_exception(error)
    # It is raised in another module, as by a library that the filter asks.
    return lambda record: future.result()


def raising_factory(error):
    def fail(name, *args, **kwargs):
        if name == NAME:
            raise error
        return logging.LogRecord(name, *args, **kwargs)

    return fail


def test_every_logger_of_the_package_is_guarded():
    """Whatever module they are in."""
    modules = [one.name for one in pkgutil.walk_packages(flask_taskq.__path__, "flask_taskq.")]
    for module in modules:
        importlib.import_module(module)
    own = {
        name: one
        for name, one in logging.root.manager.loggerDict.items()
        # Those of actors are below, too, where a test has declared one in such a module.
        if name in ("flask_taskq.jobs", *modules) and isinstance(one, logging.Logger)
    }
    assert {"flask_taskq.jobs", "flask_taskq.actors.broker"} <= own.keys()
    assert [name for name, one in own.items() if not isinstance(one, GuardedLogger)] == []


@pytest.mark.parametrize("place", ["filter", "handler", "its filter", "factory"])
@pytest.mark.parametrize("jobs_keep_logs", [False, True])
def test_a_line_over_which_the_apps_logging_raises_is_shown(
    logger, last_resort, monkeypatch, place, jobs_keep_logs
):
    """With its traceback, what went wrong, and where, which is not in this package."""
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    if jobs_keep_logs:
        monkeypatch.setattr(job_logs, "_is_listening", False)
        with job_logs._keep(None):
            pass
    error = LookupError("no request\nas it is in a job")
    if place == "filter":
        logger.addFilter(raising_filter(error))
    elif place == "handler":
        logger.addHandler(Raising(error))
    elif place == "its filter":
        handler = logging.NullHandler()
        handler.handle = logging.Handler.handle.__get__(handler)
        handler.addFilter(raising_filter(error))
        logger.addHandler(handler)
    else:
        factory = logging.getLogRecordFactory()
        logging.setLogRecordFactory(raising_factory(error))
        logger.addHandler(logging.lastResort)
    try:
        logger.error("job %s failed", 7, exc_info=ValueError("boom"), extra={"job_id": "abc"})
    finally:
        if place == "factory":
            logging.setLogRecordFactory(factory)
    first, *rest = last_resort.getvalue().splitlines()
    assert f"{NAME}: [job abc] job 7 failed (the app's logging raised LookupError in " in first
    assert f"{__file__}:" in first
    assert first.endswith(": no request)")
    assert rest == ["    ValueError: boom"]


def test_a_line_below_a_warning_is_shown_then_too(logger, last_resort):
    """It may be all that anybody sees of what is wrong."""
    logger.addHandler(Raising(LookupError()))
    logger.info("hello")
    assert "WARNING" in last_resort.getvalue()
    assert "hello (the app's logging raised LookupError" in last_resort.getvalue()


def test_an_app_that_wants_no_last_resort_has_none(logger, monkeypatch, capsys):
    """Python leaves that to it."""
    monkeypatch.setattr(logging, "lastResort", None)
    logger.addHandler(Raising(LookupError()))
    logger.error("hello")
    assert capsys.readouterr().err == ""


def test_a_message_that_cannot_be_made_harms_nobody(logger, last_resort):
    """As of an object whose repr() raises, with a filter that reads it."""

    class Odd:
        def __repr__(self):
            raise RuntimeError

    logger.addFilter(lambda record: bool(record.getMessage()))
    logger.error("%r failed", Odd())
    assert "%r failed (the app's logging raised RuntimeError" in last_resort.getvalue()


def test_a_request_to_exit_is_shown_and_passed_on(logger, last_resort):
    """It may come from a signal handler, in the middle of a line."""
    logger.addHandler(Raising(SystemExit()))
    with pytest.raises(SystemExit):
        logger.error("hello")
    assert "hello" in last_resort.getvalue()


def test_a_line_says_who_has_logged_it(logger, caplog):
    """And not that it went through a guard."""
    logger.info("hello")
    [record] = caplog.records
    assert record.funcName == "test_a_line_says_who_has_logged_it"


def test_an_apps_own_class_of_loggers_is_kept(monkeypatch, caplog):
    """It may add something to each record."""

    class Own(logging.Logger):
        def makeRecord(self, *args, **kwargs):
            record = super().makeRecord(*args, **kwargs)
            record.own = True
            return record

    name = f"{NAME}.own"
    monkeypatch.delitem(logging.root.manager.loggerDict, name, raising=False)
    monkeypatch.setattr(logging.root.manager, "loggerClass", Own)
    logger = get_logger(name)
    assert isinstance(logger, GuardedLogger) and isinstance(logger, Own)
    logger.error("hello")
    [record] = caplog.records
    assert record.own


@pytest.fixture
def disabling():
    """Configures logging as Python does by default: loggers that there are go silent."""
    others = {
        one
        for one in logging.root.manager.loggerDict.values()
        if isinstance(one, logging.Logger) and not one.disabled
    }
    yield lambda: logging.config.dictConfig({"version": 1})
    for one in others:
        one.disabled = False


def test_a_configuration_disables_the_loggers_as_all_others(logger, disabling):
    """What a process that runs no jobs says is the app's affair."""
    disabling()
    assert not logger.isEnabledFor(logging.ERROR)


def test_in_a_process_that_runs_jobs_they_stay_enabled(logger, disabling, monkeypatch):
    """However often the app configures logging, and whenever."""
    monkeypatch.setattr(GuardedLogger, "stays_enabled", False)
    disabling()
    loggers.keep_enabled()
    assert logger.isEnabledFor(logging.ERROR)
    disabling()
    assert logger.isEnabledFor(logging.ERROR)


def test_an_apps_own_level_holds(logger, last_resort, monkeypatch):
    """The level of a logger turns its records off."""
    monkeypatch.setattr(GuardedLogger, "stays_enabled", True)
    logger.setLevel(logging.CRITICAL)
    assert not logger.isEnabledFor(logging.ERROR)
