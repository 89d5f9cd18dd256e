"""How a child comes to the app of a program that has a ``FlaskGroup`` of its own.

The factory is an object of the parent. A child, which starts clean, finds it again by the
name of a module and a name in it: its own, or that of the group that it was given to. The
module may be the program itself, ``manage.py``. The child runs that, too, under another
name than ``__main__``, so that it starts no command.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from collections.abc import Iterator
from functools import reduce
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any
from typing import Final

import msgspec
from flask import Flask
from flask.cli import FlaskGroup

#: The name that a program has in a child where its own is taken.
_SPARE_NAME: Final = "__taskq_main__"


class FactoryNotFound(Exception):
    """A child could not find the factory, or does not; the text says what to do."""


class FactoryPath(msgspec.Struct, frozen=True, kw_only=True):
    """Where the factory is.

    :param module: the module's name; None is the program itself.
    :param name: in it, of the factory or of a group that has it.
    :param program: the file that was run, or the name of the module after ``-m``.
    :param is_module: whether it was run by ``-m``.
    :param arguments: ``sys.argv`` of the program, which it may read when it is run.
    :param path: its ``sys.path``.
    :param set_debug_flag: as of the ``FlaskGroup``.
    """

    module: str | None
    name: str
    program: str | None
    is_module: bool
    arguments: list[str]
    path: list[str]
    set_debug_flag: bool


def locate_factory(create_app: Callable[..., Flask], set_debug_flag: bool) -> FactoryPath:
    """Find a factory by name, for children.

    :param create_app: what a ``FlaskGroup`` was given.
    :param set_debug_flag: likewise.
    :raises FactoryNotFound: it has no name that a child could find.
    """
    found = next(_find_names(create_app), None)
    if found is None:
        raise FactoryNotFound(
            f"the processes of a worker have to build the app, and cannot find {create_app!r}"
            " again, which the FlaskGroup was given as create_app: give it a function that"
            " has a name in a module, or keep the group itself under one"
        )
    module, name = found
    program, is_module = _find_program() if module is None else (None, False)
    return FactoryPath(
        module=module,
        name=name,
        program=program,
        is_module=is_module,
        arguments=sys.argv,
        path=sys.path,
        set_debug_flag=set_debug_flag,
    )


def load_factory(place: FactoryPath) -> Callable[..., Flask]:
    """Find the factory again, in a child.

    :raises FactoryNotFound: it is not there, or the program started a command.
    """
    sys.path[:] = place.path
    sys.argv = place.arguments
    name = place.program if place.module is None else place.module
    try:
        module = _import(place)
    except SystemExit:
        raise FactoryNotFound(
            f"{name} ends when it is imported, and so no process of the worker can build the"
            ' app: put the call that runs its commands below: if __name__ == "__main__":'
        ) from None
    try:
        found: Any = reduce(getattr, place.name.split("."), module)
    except AttributeError:
        raise FactoryNotFound(
            f"{name} has no {place.name!r} when it is imported by a process of the worker:"
            ' define it at the top level, and not below: if __name__ == "__main__":'
        ) from None
    factory: Callable[..., Flask] = found
    if isinstance(found, FlaskGroup) and found.create_app is not None:
        factory = found.create_app
    return factory


def _find_names(create_app: object) -> Iterator[tuple[str | None, str]]:
    module = getattr(create_app, "__module__", None)
    name = getattr(create_app, "__qualname__", "")
    if module in sys.modules and _is_there(sys.modules[module], name, create_app):
        yield None if module == "__main__" else module, name
    # The program comes last: what it has imported from elsewhere is better found there.
    others = [one for one in sys.modules if one != "__main__"]
    for module in (*others, "__main__"):
        for name, value in list(getattr(sys.modules[module], "__dict__", {}).items()):
            if isinstance(value, FlaskGroup):
                value = value.create_app
            if value is create_app:
                yield None if module == "__main__" else module, name


def _is_there(module: ModuleType, name: str, wanted: object) -> bool:
    try:
        return reduce(getattr, name.split("."), module) is wanted
    except AttributeError:
        return False


def _find_program() -> tuple[str, bool]:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return spec.name, True
    file = getattr(main, "__file__", None)
    if spec is not None or file is None or not os.path.isfile(file):
        raise FactoryNotFound(
            "the processes of a worker have to build the app, and this program is no file"
            " that they could run: move the app's factory to a module"
        )
    return os.path.abspath(file), False


def _import(place: FactoryPath) -> ModuleType:
    if place.module is not None:
        return importlib.import_module(place.module)
    assert place.program is not None
    return _run(place.program, place.is_module)


def _run(program: str, is_module: bool) -> ModuleType:
    """Run a program as a module, which looks to Flask as it did as ``__main__``.

    Flask finds the name of an app and its instance folder by the name of the module. As
    an ordinary import, the program could get another folder than it has as a web server, and
    with it another SQLite file.
    """
    spec, file, package = None, program, None
    if is_module:
        spec = importlib.util.find_spec(program)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            raise FactoryNotFound(f"there is no module {program!r} any more")
        file, package = spec.loader.path, spec.parent
    name = os.path.splitext(os.path.basename(file))[0]
    module = ModuleType(_SPARE_NAME if name in sys.modules else name)
    loader = SourceFileLoader(module.__name__, file)
    attributes: dict[str, Any] = {
        "__file__": file,
        "__loader__": loader,
        "__package__": package,
        "__spec__": spec,
    }
    module.__dict__.update(attributes)
    sys.modules[module.__name__] = module
    if is_module:
        # For those who import it by its real name: there is one of it, not two.
        sys.modules[program] = module
    loader.exec_module(module)
    return module
