"""The tree of errors."""

from __future__ import annotations

import inspect
import re

import pytest

from flask_taskq import errors

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if value.__module__ == errors.__name__
]


def drawn_tree() -> dict[str, str | None]:
    """Each class that the module's docstring draws, and the one that it hangs from."""
    tree: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:│   |    |├── |└── )*)([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 4
            del path[depth:]
            tree[match[2]] = path[-1] if path else None
            path.append(match[2])
    return tree


def test_the_drawing_shows_every_class() -> None:
    """Who reads the docstring sees all that can be caught."""
    assert set(drawn_tree()) == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_drawing_hangs_a_class_where_it_belongs(cls: type[BaseException]) -> None:
    """The parent in the drawing is the parent in the code."""
    parent = drawn_tree()[cls.__name__]

    expected = cls.__base__.__name__ if cls.__base__ in CLASSES else None
    assert parent == expected


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_says_what_it_means(cls: type[BaseException]) -> None:
    """The docstring is the documentation of the API."""
    assert cls.__doc__
    assert cls.__doc__.rstrip().endswith(".")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_one_except_catches_all_that_is_raised_on_purpose(cls: type[BaseException]) -> None:
    """What is no TaskQError is an Interrupt, which ``except Exception`` must let pass."""
    assert issubclass(cls, errors.TaskQError) is not issubclass(cls, errors.Interrupt)
    assert issubclass(cls, Exception) is issubclass(cls, errors.TaskQError)


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [(errors.BadArguments, TypeError), (errors.PayloadTooLarge, ValueError)],
)
def test_what_a_caller_did_wrong_is_also_the_builtin_error(cls, builtin) -> None:
    """Who calls an actor as a function may catch what a function raises."""
    assert issubclass(cls, builtin)


def test_a_decode_error_keeps_the_bytes() -> None:
    """A developer needs all of them."""
    error = errors.DecodeError("no message", b"\x00")

    assert (str(error), error.data) == ("no message", b"\x00")


def test_a_result_failure_names_the_exception_as_text() -> None:
    """There is nothing in it to import."""
    error = errors.ResultFailure("job 1 failed", "ValueError", "no")

    assert str(error) == "job 1 failed"
    assert (error.orig_exc_type, error.orig_exc_msg) == ("ValueError", "no")
