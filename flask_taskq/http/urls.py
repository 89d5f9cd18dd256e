"""Where an app shows its jobs."""

from __future__ import annotations

from typing import Any
from typing import Final
from urllib.parse import urlsplit

from flask import Blueprint
from flask import current_app
from flask import Flask
from flask import has_app_context
from flask import has_request_context
from flask import request
from flask import url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BuildError

from ..errors import ConfigurationError

#: The name of the blueprint, if an app gives it no other.
NAME: Final = "taskq"

#: The methods of the routes. The app may have others at the same addresses.
METHODS: Final = frozenset({"GET", "DELETE"})

#: The part of a rule that stands for any host.
_HOST: Final = "taskq_host"


class JobsBlueprint(Blueprint):
    """The blueprint of the jobs' routes: known by its class, whatever its name is."""

    def __init__(self, import_name: str) -> None:
        super().__init__(NAME, import_name)
        self.url_value_preprocessor(_forget_host)
        self.url_defaults(_add_host)

    def make_setup_state(
        self, app: Any, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        return _SetupState(self, app, options, first_registration)


class _SetupState(BlueprintSetupState):
    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any
    ) -> None:
        # In such an app, a rule without a host would match none.
        if self.app.url_map.host_matching:
            options.setdefault("host", f"<{_HOST}>")
        super().add_url_rule(rule, endpoint, view_func, **options)


def _forget_host(endpoint: str | None, values: dict[str, Any] | None) -> None:
    if values is not None:
        values.pop(_HOST, None)


def _add_host(endpoint: str, values: dict[str, Any]) -> None:
    if has_app_context() and current_app.url_map.host_matching:
        host = request.host if has_request_context() else current_app.config["SERVER_NAME"]
        values.setdefault(_HOST, host or "localhost")


def job_url(job_id: str) -> str | None:
    """Where the current app shows a job, without scheme and host; None if it does not.

    An app that has the routes on another subdomain than that of the request gets all of the
    URL. Variables of the routes, such as a tenant in their prefix, are those of the request.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    if not has_request_context():
        return job_path(app, job_id)
    # The one that answers the request, where the app has several.
    endpoint = _find_endpoint(app, request.blueprint)
    if endpoint is None:
        return None
    values: dict[str, Any] = {"job_id": job_id}
    given = request.view_args or {}
    for rule in app.url_map.iter_rules(endpoint):
        values = {name: given[name] for name in rule.arguments if name in given} | values
    try:
        url = url_for(endpoint, **values)
    except BuildError:
        return None
    return urlsplit(url).path if app.url_map.host_matching else url


def job_path(app: Flask, job_id: str) -> str | None:
    """Where an app shows a job, outside of its requests; None if it does not."""
    endpoint = _find_endpoint(app, NAME)
    if endpoint is None:
        return None
    config = app.config
    adapter = app.url_map.bind(
        config["SERVER_NAME"] or "localhost", script_name=config["APPLICATION_ROOT"]
    )
    values: dict[str, Any] = {"job_id": job_id}
    if app.url_map.host_matching:
        values[_HOST] = adapter.server_name
    try:
        app.inject_url_defaults(endpoint, values)
        return urlsplit(adapter.build(endpoint, values)).path
    except Exception:
        return None  # what a function of the app's adds to its URLs may need a request


def _find_endpoint(app: Flask, preferred: str | None) -> str | None:
    """Of the route that shows a job.

    :param preferred: the name of a blueprint.
    """
    for name in (preferred, NAME, *app.blueprints):
        if name is not None and isinstance(app.blueprints.get(name), JobsBlueprint):
            return f"{name}.show_job"
    return None


def refuse_taken_prefix(app: Flask, prefix: str) -> None:
    """Make sure that no route of the app is where the jobs' routes are.

    :raises ConfigurationError: there is one; the text names it.
    """
    for rule in app.url_map.iter_rules():
        if not (rule.rule == prefix or rule.rule.startswith(prefix + "/")):
            continue
        if METHODS.isdisjoint(rule.methods or METHODS) or _is_elsewhere(app, rule.subdomain):
            continue
        if isinstance(app.blueprints.get(rule.endpoint.rpartition(".")[0]), JobsBlueprint):
            continue
        raise ConfigurationError(
            f"TASKQ_JOBS_URL_PREFIX is {prefix!r}, but the app has the route"
            f" {rule.rule!r} (endpoint {rule.endpoint!r}) there already: choose another"
            " prefix, or None to do without the jobs' routes"
        )


def _is_elsewhere(app: Flask, subdomain: str | None) -> bool:
    # The jobs' routes are on the default subdomain; but on every host, where hosts count.
    return not app.url_map.host_matching and (subdomain or "") != app.url_map.default_subdomain
