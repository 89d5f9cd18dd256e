"""The public list."""

import inspect

import pytest

import flask_taskq
from flask_taskq import errors

PUBLIC = [
    "Actor",
    "AsyncActor",
    "GenericActor",
    "Job",
    "Message",
    "Middleware",
    "Status",
    "TaskQ",
    "current_job",
    "shared_actor",
]

ERRORS = [
    "ActorNotFound",
    "BadArguments",
    "BadResult",
    "BrokerConnectionError",
    "BrokerError",
    "BrokerFull",
    "Cancel",
    "ConfigurationError",
    "ConnectionClosed",
    "ConnectionFailed",
    "DecodeError",
    "Interrupt",
    "JobCancelled",
    "JobNotFound",
    "LeaseLost",
    "MiddlewareError",
    "PayloadTooLarge",
    "ResultError",
    "ResultFailure",
    "ResultMissing",
    "ResultTimeout",
    "Retry",
    "Shutdown",
    "SkipMessage",
    "Snooze",
    "TaskQError",
    "TimeLimitExceeded",
]


def test_the_public_names_are_these():
    """Everything else may move without notice."""
    assert flask_taskq.__all__ == PUBLIC


def test_the_public_names_are_sorted():
    """So that two additions do not meet in one line."""
    assert flask_taskq.__all__ == sorted(flask_taskq.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there(name):
    """For ``from flask_taskq import ...``."""
    assert hasattr(flask_taskq, name)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "current_job"])
def test_a_public_name_is_documented(name):
    """In its own words, and not in those of a base class."""
    public = getattr(flask_taskq, name)
    assert vars(public)["__doc__"] if isinstance(public, type) else public.__doc__


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "current_job"])
def test_what_a_public_class_offers_is_documented(name):
    """Each method and property."""
    public = {
        member: value
        for member, value in vars(getattr(flask_taskq, name)).items()
        if not member.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property))
    }
    assert [member for member, value in public.items() if not value.__doc__] == []


def test_the_public_errors_are_these():
    """The tree in the module's docstring draws all of them."""
    found = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    assert sorted(found) == ERRORS
    assert [name for name in found if name not in (errors.__doc__ or "")] == []
