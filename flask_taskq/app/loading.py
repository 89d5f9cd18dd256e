"""What a configuration names: middleware, and the modules that actors are in."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from werkzeug.utils import import_string

from ..actors.hooks import Middleware
from ..errors import ConfigurationError


def load_middleware(key: str, entries: Iterable[object]) -> list[Middleware]:
    """Make middleware of what a list in the configuration has.

    :param key: the list's key, for the text of errors.
    :param entries: instances, classes, or dotted names of either.
    :raises ConfigurationError: an entry cannot be imported or made, or is no middleware.
    """
    return [_load(key, entry) for entry in entries]


def _load(key: str, entry: object) -> Middleware:
    found = entry
    if isinstance(entry, str):
        try:
            found = import_string(entry)
        except ImportError as error:
            raise ConfigurationError(f"{key}: {entry!r} cannot be imported: {error}") from error
    if isinstance(found, type) and issubclass(found, Middleware):
        try:
            found = found()
        except TypeError as error:
            raise ConfigurationError(
                f"{key}: {entry!r} cannot be made without arguments ({error}): give an"
                " instance instead"
            ) from error
    if not isinstance(found, Middleware):
        raise ConfigurationError(
            f"{key}: {entry!r} is no middleware: that is an instance or a subclass of"
            " flask_taskq.Middleware, or the dotted name of one"
        )
    return found


def import_actors(names: Iterable[str]) -> list[str]:
    """Import the modules of ``TASKQ_ACTORS``.

    :param names: of modules; ``pkg.*`` is a package and all that is below it.
    :return: what was imported, by name.
    :raises ConfigurationError: one cannot be imported.
    """
    imported = []
    for name in names:
        try:
            if name.endswith(".*"):
                imported += _import_package(name.removesuffix(".*"))
            else:
                importlib.import_module(name)
                imported.append(name)
        except (ImportError, ValueError, TypeError) as error:
            # The last two are what an empty name and a relative one raise.
            raise ConfigurationError(
                f"TASKQ_ACTORS: {name!r} cannot be imported: {error}"
            ) from error
    return imported


def _import_package(name: str) -> list[str]:
    package = importlib.import_module(name)
    imported = [name]
    # Not by pkgutil.walk_packages(), which passes over a package that cannot be imported.
    for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{name}."):
        if module.name.endswith(".__main__"):
            continue  # importing it would run the program
        imported += _import_package(module.name)
    return imported
