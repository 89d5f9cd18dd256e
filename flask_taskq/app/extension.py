"""The Flask extension: puts an engine, middleware and routes together for each app."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Iterable
from typing import Any
from typing import overload
from typing import ParamSpec
from typing import TypeVar

from flask import abort
from flask import Blueprint
from flask import current_app
from flask import Flask
from flask import has_app_context
from flask import request_started
from flask import Response

from .. import middleware
from ..actors.actor import Actor
from ..actors.actor import ActorDecorator
from ..actors.actor import AsyncActor
from ..actors.actor import check_name_is_free
from ..actors.actor import find_actor_name
from ..actors.actor import make_actor
from ..actors.broker import Broker
from ..actors.hooks import Middleware
from ..actors.job import Job
from ..clock import Clock
from ..config import Settings
from ..engines import make_engine
from ..errors import BrokerError
from ..errors import JobNotFound
from ..http import answer_not_found
from ..http import job_dict
from ..http import job_path
from ..http import job_response
from ..http import job_url
from ..http import make_jobs_blueprint
from ..http import NO_SUCH_JOB
from ..http import refuse_taken_prefix
from ..jobs.encoding import JOB_ID
from ..jobs.message import Message
from ..jobs.record import JobRecord
from ..loggers import get_logger
from ..middleware.callbacks import find_unknown_callbacks
from .context import AppContext
from .loading import load_middleware
from .shared_actors import get_shared_actors
from .shared_actors import OUTSIDE
from .signal_middleware import AppSignals
from .uncommitted_warning import Uncommitted

P = ParamSpec("P")
R = TypeVar("R")

logger = get_logger(__name__)


class TaskQ:
    """Background jobs for Flask apps.

    Actors belong to this object and are declared once, at import time; each app that is
    initialized with it gets a broker of its own.

    :param app: an app to initialize at once.
    :param clock: where the time comes from; tests bring their own.
    """

    def __init__(self, app: Flask | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._actors: dict[str, Actor[..., Any]] = {}
        self._adopted = 0
        self._refused: dict[Actor[..., Any], str] = {}
        self._watched: weakref.WeakSet[Broker] = weakref.WeakSet()
        # No broker refers to its app, so an app that is dropped takes its broker along.
        self._brokers: weakref.WeakKeyDictionary[Flask, Broker] = weakref.WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read ``TASKQ_*`` from an app's configuration and set the app up. No I/O is done.

        :raises ConfigurationError: a key is wrong, or the app has a route under
            ``TASKQ_JOBS_URL_PREFIX`` already.
        :raises ValueError: an actor has an option that no middleware of this app knows, or
            that cannot work, or the name of a shared actor.
        :raises RuntimeError: another TaskQ was set up for this app.
        """
        known = app.extensions.get("taskq")
        if known is self:
            raise RuntimeError(
                f"this TaskQ is set up for the app {app.name!r} already: call init_app(app)"
                " once; TaskQ(app) has called it"
            )
        if known is not None:
            raise RuntimeError(
                f"another TaskQ is set up for the app {app.name!r} already: import and use"
                " that one"
            )
        settings = Settings.from_mapping(app.config.get_namespace("TASKQ_"), app.instance_path)
        broker = self._make_broker(app, settings)
        broker.describe = _Describer(app, settings)
        self._adopt(is_strict=True)
        for actor in self._actors.values():
            broker.declare_actor(actor)
        if settings.jobs_url_prefix is not None:
            refuse_taken_prefix(app, settings.jobs_url_prefix)
            app.register_blueprint(self.jobs_blueprint(), url_prefix=settings.jobs_url_prefix)
        if JobNotFound not in app.error_handler_spec[None][None]:
            app.register_error_handler(JobNotFound, answer_not_found)
        self._brokers[app] = broker
        app.extensions["taskq"] = self
        weakref.finalize(app, broker.close)
        request_started.connect(_check_set_up, app)

    def _make_broker(self, app: Flask, settings: Settings) -> Broker:
        # The app's context is outermost, so that all other middleware has the app, too.
        chain = [AppContext(app), AppSignals(app), *_load_middleware(settings)]
        if app.debug:
            chain.append(Uncommitted(app))
        if settings.eager:
            # Imported on demand, like an engine: no other web server needs what runs jobs.
            from ..worker.eager import make_eager_broker  # noqa: PLC0415

            return make_eager_broker(settings, self._clock, chain)
        return Broker(make_engine(settings, self._clock), settings, self._clock, chain)

    # The current app's

    @property
    def broker(self) -> Broker:
        """The broker of the current app.

        :raises RuntimeError: there is no current app, or this TaskQ is not set up for it.
        """
        if not has_app_context():
            raise RuntimeError(OUTSIDE)
        return self.broker_for(current_app._get_current_object())  # type: ignore[attr-defined]

    def broker_for(self, app: Flask) -> Broker:
        """The broker of an app.

        :raises RuntimeError: this TaskQ is not set up for it.
        """
        self._adopt()
        try:
            return self._brokers[app]
        except KeyError:
            raise RuntimeError(
                f"this TaskQ is not set up for the app {app.name!r}: call init_app(app)"
            ) from None

    def send_many(self, messages: Iterable[Message]) -> list[Job[Any]]:
        """Store messages as jobs, all of them or none, in one step.

        :param messages: what :meth:`Actor.message` made.
        :raises BadArguments: the arguments of a message do not fit its actor, or would not be
            read back as what they are.
        :raises PayloadTooLarge: one is over ``TASKQ_MAX_MESSAGE_SIZE``.
        :raises BrokerError: they could not be stored.
        """
        return self.broker.enqueue_many(messages)

    def job(self, job_id: str) -> Job[Any]:
        """A handle on a job that was sent earlier, perhaps by another process.

        :raises JobNotFound: no job has this id, or it was kept long enough.
        """
        if not JOB_ID.fullmatch(job_id):
            raise JobNotFound(f"{job_id[:80]!r} is no job's id: those are 32 hex digits")
        broker = self.broker
        return Job(broker.get_record(job_id), broker)

    def get_job_or_404(self, job_id: str) -> Job[Any]:
        """As :meth:`job`, for views: a job that is not there is the app's 404.

        :raises werkzeug.exceptions.NotFound: as :exc:`JobNotFound`.
        """
        try:
            return self.job(job_id)
        except JobNotFound:
            abort(404, NO_SUCH_JOB)

    # HTTP

    def accepted(self, job: Job[Any], location: str | None = None) -> Response:
        """The answer of a view that has sent a job: 202, and where to ask for it.

        :param job: what ``send()`` returned.
        :param location: where the client finds the job, if not at the routes of
            :meth:`jobs_blueprint`.
        """
        broker = self.broker
        if current_app.debug:
            self._look_for_workers(broker, job)
        url = job_url(job.id)
        response = job_response(
            job.record,
            now=broker.engine.now(),
            expose=broker.settings.expose,
            url=url,
            reason=job.record.status_reason,
            status=202,
        )
        location = location or url
        if location is not None:
            response.headers["Location"] = location
        return response

    def _look_for_workers(self, broker: Broker, job: Job[Any]) -> None:
        """Warn once if no worker is running, since a new developer may not know of workers."""
        if current_app.testing or broker in self._watched:
            return
        if job.done or not broker.engine.is_shared:
            return  # it has run here, or it is for the worker of a test
        self._watched.add(broker)
        try:
            workers = broker.engine.workers.count()
        except BrokerError:
            return
        if not workers:
            logger.warning(
                "job %s of actor %r waits for a worker, and none is running for this app's"
                " TASKQ_BROKER_URL: start one with `flask taskq worker`",
                job.id,
                job.record.actor,
            )

    def jobs_blueprint(self) -> Blueprint:
        """The blueprint of ``/jobs/<id>``, for apps that register it themselves.

        It takes ``before_request()`` and all else that a blueprint does, and any name and
        prefix: ``accepted()`` finds it.
        """
        return make_jobs_blueprint(lambda: self.broker)

    # Actors

    @overload
    def actor(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> AsyncActor[P, R]: ...

    @overload
    def actor(self, fn: Callable[P, R]) -> Actor[P, R]: ...

    @overload
    def actor(
        self,
        *,
        actor_name: str | None = None,
        queue_name: str = "default",
        priority: int = 0,
        check_types: bool = True,
        **options: Any,
    ) -> ActorDecorator: ...

    def actor(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        actor_name: str | None = None,
        queue_name: str = "default",
        priority: int = 0,
        check_types: bool = True,
        **options: Any,
    ) -> Any:
        """Declare a function as an actor. Usable bare or with arguments.

        :param actor_name: the name that messages carry; by default the function's.
        :param queue_name: the queue that its messages go to.
        :param priority: from -9, first, to 9, last; within one priority, first come, first
            served.
        :param check_types: whether ``send()`` holds arguments, and a worker the result,
            against the annotations of the function.
        :param options: options of middleware, such as ``max_retries``.
        :raises ValueError: a name, the priority or an option is not valid, or the name is
            taken.
        """

        def declare(fn: Callable[..., Any]) -> Actor[..., Any]:
            actor = make_actor(
                fn,
                resolver=lambda: self.broker,
                actor_name=actor_name or find_actor_name(fn),
                queue_name=queue_name,
                priority=priority,
                check_types=check_types,
                options=options,
            )
            self._declare(actor)
            return actor

        return declare if fn is None else declare(fn)

    def _declare(self, actor: Actor[..., Any]) -> None:
        check_name_is_free(actor, self._actors)
        for broker in self._brokers.values():
            broker.declare_actor(actor)
        self._actors[actor.actor_name] = actor

    def _adopt(self, *, is_strict: bool = False) -> None:
        # Looked at again with each use of a broker, because a module with shared actors may
        # be imported after the app was set up, and is known in its worker all the same.
        seen = self._adopted
        for number, actor in enumerate(get_shared_actors(seen), seen + 1):
            try:
                self._declare(actor)
            except ValueError as error:
                if is_strict:
                    raise
                # Not raised here: the caller may be using another actor.
                self._refused[actor] = str(error)
                logger.error("a shared actor cannot be used: %s", error)
            self._adopted = number

    def check_shared(self, actor: Actor[..., Any]) -> None:
        """Make sure that a shared actor is the one that its name stands for.

        :raises ValueError: it is not, since its name or an option of it was refused.
        """
        if actor in self._refused:
            raise ValueError(self._refused[actor])


class _Describer:
    """Shows the records of an app's jobs as clients see them. It does not keep it alive."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._app = weakref.ref(app)
        self._expose = settings.expose

    def __call__(self, record: JobRecord) -> dict[str, Any]:
        app = self._app()
        url = None
        if app is not None:
            is_current = has_app_context() and current_app == app
            url = job_url(record.id) if is_current else job_path(app, record.id)
        return job_dict(record, self._expose, url)


def _check_set_up(app: Flask, **extra: Any) -> None:
    """Look, at an app's first request, at what it got after ``init_app()``."""
    broker = app.extensions["taskq"].broker_for(app)
    prefix = broker.settings.jobs_url_prefix
    if prefix is not None:
        refuse_taken_prefix(app, prefix)
    if not broker.settings.actors:
        # Otherwise only a worker knows all actors.
        for text in find_unknown_callbacks(broker):
            logger.warning("%s", text)
    # Routes that come later are Flask's own error.
    request_started.disconnect(_check_set_up, app)


def _load_middleware(settings: Settings) -> list[Middleware]:
    defaults = settings.default_middleware
    return [
        *load_middleware(
            "TASKQ_DEFAULT_MIDDLEWARE", middleware.DEFAULT if defaults is None else defaults
        ),
        *load_middleware("TASKQ_MIDDLEWARE", settings.middleware),
    ]
