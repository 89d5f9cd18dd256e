"""The hooks of a broker's middleware, in the order in which they are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import ExitStack
from contextlib import nullcontext
from typing import Any
from typing import Final
from typing import NamedTuple
from typing import Self

from ..errors import MiddlewareError
from ..loggers import get_logger
from .actor import Actor
from .hooks import HOOKS
from .hooks import Middleware
from .run import Run

logger = get_logger("flask_taskq.actors.broker")

Hook = Callable[..., Any]

_NO_CONTEXT: Final = nullcontext()


class RunHooks(NamedTuple):
    """The hooks around the runs of one actor, or around any run."""

    around: Sequence[Hook]
    before: Sequence[Hook]
    after_success: Sequence[Hook]
    after_failure: Sequence[Hook]


class Chain:
    """Calls the hooks of middleware. Hooks that no middleware overrides cost nothing.

    :param broker: the first argument of each hook.
    """

    def __init__(self, broker: Any) -> None:
        self.middleware: list[Middleware] = []
        self._broker = broker
        self._collect()

    def add(
        self,
        middleware: Middleware,
        before: type[Middleware] | None,
        after: type[Middleware] | None,
    ) -> None:
        """Add a middleware: at the end, or next to the first one of a class.

        :raises ValueError: there is none of that class, or both places were given.
        """
        self.middleware.insert(self._position(before, after), middleware)
        self._collect()

    def remove(self, middleware: Middleware) -> None:
        """:raises ValueError: it is not in here."""
        self.middleware.remove(middleware)
        self._collect()

    def _position(self, before: type[Middleware] | None, after: type[Middleware] | None) -> int:
        if before and after:
            raise ValueError("add_middleware() takes one of before and after")
        reference = before or after
        if reference is None:
            return len(self.middleware)
        for position, one in enumerate(self.middleware):
            if isinstance(one, reference):
                return position + (after is not None)
        raise ValueError(f"no {reference.__name__} among the broker's middleware")

    def _collect(self) -> None:
        #: By their names.
        self.hooks = {name: self._find(name, self.middleware) for name in HOOKS}
        #: Those around any run.
        self.any_run = self._around_run(self.middleware)

    def _find(self, name: str, middleware: Sequence[Middleware]) -> list[Hook]:
        hooks = [
            getattr(one, name)
            for one in middleware
            if getattr(type(one), name) is not getattr(Middleware, name)
        ]
        return hooks[::-1] if name.startswith("after_") else hooks

    def _around_run(self, middleware: Sequence[Middleware]) -> RunHooks:
        after = self._find("after_process_message", middleware)
        return RunHooks(
            around=self._find("around_process_message", middleware),
            before=self._find("before_process_message", middleware),
            after_success=[one for one in after if not getattr(one, "is_for_failures", False)],
            after_failure=after,
        )

    def for_runs_of(self, actor: Actor[..., Any]) -> RunHooks:
        """The hooks around runs whose messages bring no options of their own."""
        return self._around_run(
            [one for one in self.middleware if one.applies_to(self._broker, actor)]
        )

    def has(self, name: str) -> bool:
        """Whether any middleware overrides this hook."""
        return bool(self.hooks[name])

    # Calling them

    def contexts(self, hooks: RunHooks, run: Run) -> AbstractContextManager[object]:
        """The contexts around one run, as one: the first hook's is the outermost."""
        around = hooks.around
        if len(around) == 1:  # as for most runs: the app's
            return around[0](self._broker, run) or _NO_CONTEXT
        return _Contexts(self._broker, around, run)

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the ``before_`` hooks in order.

        :raises MiddlewareError: a hook raised it. Other exceptions are logged.
        """
        self.call_before(self.hooks.get(f"before_{signal}", ()), *args, **kwargs)

    def call_before(self, hooks: Sequence[Hook], *args: Any, **kwargs: Any) -> None:
        """As :meth:`emit_before`, for these."""
        for hook in hooks:
            try:
                hook(self._broker, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                logger.exception("%r failed", hook)

    def emit_after(
        self,
        signal: str,
        *args: Any,
        catches: tuple[type[BaseException], ...] = (Exception,),
        **kwargs: Any,
    ) -> None:
        """Run the ``after_`` hooks in reverse order, whatever they raise.

        :param catches: what is logged and ignored. Around the outcome of a job this is more
            than :exc:`Exception`, but for tests, which fail by what a hook raises.
        """
        self.call_after(self.hooks.get(f"after_{signal}", ()), catches, *args, **kwargs)

    def call_after(
        self,
        hooks: Sequence[Hook],
        catches: tuple[type[BaseException], ...],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """As :meth:`emit_after`, for these."""
        for hook in hooks:
            try:
                hook(self._broker, *args, **kwargs)
            except catches:
                logger.exception("%r failed", hook)


class _Contexts(ExitStack):
    """Several contexts around one run.

    :param broker: the first argument of each hook.
    :param around: those hooks.
    """

    def __init__(self, broker: Any, around: Sequence[Hook], run: Run) -> None:
        super().__init__()
        self._broker = broker
        self._around = around
        self._run = run

    def __enter__(self) -> Self:
        try:
            for around in self._around:
                context = around(self._broker, self._run)
                if context is not None:
                    self.enter_context(context)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self
