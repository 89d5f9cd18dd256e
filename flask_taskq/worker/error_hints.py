"""What an actor's exception may come from, when its own text does not say so.

A function that is moved from a view into an actor meets the same few errors: there is no
request, ``g`` is empty, and the row that the view has stored is not committed yet. What is
raised then names none of these. So the exception gets a note, which every traceback shows:
the log's, the record's, that of ``flask taskq job``, and a test's.

Nothing here runs for a job that ends well, and nothing here raises.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
import textwrap
import traceback
from types import CodeType
from types import TracebackType
from typing import Any
from typing import Final

#: How soon after it was sent a job has to start, in milliseconds, for its sender to be still
#: before the commit.
_SOON: Final = 5_000

#: Functions of Flask-SQLAlchemy that raise Werkzeug's ``NotFound``.
_OR_404: Final = frozenset({"get_or_404", "first_or_404", "one_or_404"})

#: Calls that give None when there is no row, and what they are made on.
_OR_NONE: Final = frozenset({"get", "first", "one_or_none", "scalar", "scalar_one_or_none"})
_DATABASE: Final = re.compile(r"session|query", re.IGNORECASE)


def add_hint(error: BaseException, *, actor: str, attempt: int, age: int) -> None:
    """Add a note to an exception that came out of an actor, if its cause may be a known one.

    :param actor: the actor's name.
    :param attempt: the number of the run.
    :param age: how long before its start the job was sent, in milliseconds.
    """
    try:
        hint = _find_hint(error, actor, attempt, age)
        if hint is not None and hint not in getattr(error, "__notes__", ()):
            error.add_note(hint)
    except Exception:
        pass  # a foreign exception, on foreign source code: whatever it was, it is no help


def _find_hint(error: BaseException, actor: str, attempt: int, age: int) -> str | None:
    instead = f"Read the value in the view and pass it as an argument: {actor}.send(...)."
    if _needs_request(error):
        return (
            "Hint: a job has no request, session or current_user: it runs apart from the"
            f" request that sent it. {instead}"
        )
    if _needs_g(error):
        return (
            "Hint: a job has a g of its own, without what a view or before_request has put"
            f" into the other one. {instead}"
        )
    if _is(error, RuntimeError, "Unable to build URLs outside an active request"):
        return (
            "Hint: a job has no request that url_for() could take the host from. Set"
            " SERVER_NAME and PREFERRED_URL_SCHEME, or make the URL in the view and pass it as"
            f" an argument: {actor}.send(...)."
        )
    if attempt == 1 and age < _SOON and _lacks_row(error):
        return (
            f"Hint: this job started {max(age, 0)} ms after it was sent, and the row may not"
            " have been committed by then. Send after the commit: db.session.commit(), and"
            f" then {actor}.send(...)."
        )
    return None


def _is(error: BaseException, kind: type[BaseException], text: str) -> bool:
    return isinstance(error, kind) and str(error).startswith(text)


# --- A request ---


def _needs_request(error: BaseException) -> bool:
    if _is(error, RuntimeError, "Working outside of request context"):
        return True
    # Flask-Login's proxy is one of None where there is no request.
    return _misses_attribute_of_none(error) and "current_user" in _failed_expression(error)


def _needs_g(error: BaseException) -> bool:
    last = _last_frame(error)
    return (
        isinstance(error, (AttributeError, KeyError))
        and last is not None
        and last.tb_frame.f_globals.get("__name__") == "flask.ctx"
        and type(last.tb_frame.f_locals.get("self")).__name__ == "_AppCtxGlobals"
    )


# --- A row ---


def _lacks_row(error: BaseException) -> bool:
    if "sqlalchemy" not in sys.modules:
        return False
    kind = type(error)
    if kind.__name__ == "NoResultFound":
        return kind.__module__.startswith("sqlalchemy.")
    if kind.__name__ == "NotFound" and kind.__module__ == "werkzeug.exceptions":
        return any(
            frame.f_code.co_name in _OR_404
            for frame, _ in traceback.walk_tb(error.__traceback__)
        )
    if not _misses_attribute_of_none(error):
        return False
    accessed = ast.parse(_failed_expression(error), mode="eval").body
    if not isinstance(accessed, ast.Attribute):
        return False
    last = _last_frame(error)
    assert last is not None
    value: ast.expr | None = accessed.value
    if isinstance(value, ast.Name):
        value = _assigned(last.tb_frame.f_code, value.id, last.tb_lineno)
    return value is not None and _reads_row(value)


def _assigned(code: CodeType, name: str, line: int) -> ast.expr | None:
    """What was assigned to a local name last, above a line of a function."""
    lines, first = inspect.getsourcelines(code)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and node.lineno + first - 1 <= line
        and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)
    ]
    return max(found, key=lambda node: node.lineno).value if found else None


def _reads_row(value: ast.expr) -> bool:
    if isinstance(value, ast.Await):
        value = value.value
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in _OR_NONE
        and _DATABASE.search(ast.unparse(value.func)) is not None
    )


# --- Where it happened ---


def _misses_attribute_of_none(error: BaseException) -> bool:
    missing: Any = ...
    return isinstance(error, AttributeError) and getattr(error, "obj", missing) is None


def _last_frame(error: BaseException) -> TracebackType | None:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last


def _failed_expression(error: BaseException) -> str:
    """The source of what was evaluated, such as ``user.name``; empty if it is not known."""
    place = traceback.extract_tb(error.__traceback__, limit=-1)[-1]
    if None in (place.lineno, place.end_lineno, place.colno, place.end_colno):
        return ""
    assert place.lineno and place.end_lineno
    lines = [
        linecache.getline(place.filename, number).encode()
        for number in range(place.lineno, place.end_lineno + 1)
    ]
    lines[-1] = lines[-1][: place.end_colno]  # first: it may be the only line
    lines[0] = lines[0][place.colno :]
    return b"".join(lines).decode()
