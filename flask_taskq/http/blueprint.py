"""The routes under ``TASKQ_JOBS_URL_PREFIX``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Final

from flask import Blueprint
from flask import current_app
from flask import request
from flask import Response
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from ..actors.broker import Broker
from ..errors import BrokerError
from ..errors import DecodeError
from ..errors import JobNotFound
from ..jobs.encoding import JOB_ID
from ..jobs.record import JobRecord
from ..jobs.record import Status
from ..loggers import get_logger
from .resource import job_response
from .resource import problem_response
from .resource import result_response
from .urls import job_url
from .urls import JobsBlueprint

logger = get_logger(__name__)

#: The answer to an unknown id. It repeats nothing of the request.
NO_SUCH_JOB: Final = "No job has this id: it never existed, or it was kept long enough."


def answer_not_found(error: JobNotFound) -> ResponseReturnValue:
    """The answer of a view that looked for a job which is not there: what the app answers
    with for any other address that it does not have."""
    return current_app.handle_user_exception(NotFound(NO_SUCH_JOB))


def make_jobs_blueprint(resolve: Callable[[], Broker]) -> Blueprint:
    """The blueprint that shows and cancels jobs.

    :param resolve: finds the broker of the app that serves the request.
    """
    blueprint = JobsBlueprint(__name__)

    def answer(record: JobRecord, status: int = 200) -> Response:
        broker = resolve()
        return job_response(
            record,
            now=broker.engine.now(),
            expose=broker.settings.expose,
            url=job_url(record.id),
            status=status,
            reason=broker.find_reason(record),
        )

    def find(job_id: str) -> JobRecord:
        # An id of another form is as unknown as any: the engine is not even asked.
        if not JOB_ID.fullmatch(job_id):
            raise JobNotFound(job_id)
        return resolve().get_record(job_id)

    # An app may register them under a prefix with variables of its own.

    @blueprint.get("/<job_id>")
    def show_job(job_id: str, **_others: Any) -> Response:
        response = answer(find(job_id))
        response.make_conditional(request)
        return response

    @blueprint.get("/<job_id>/result")
    def show_result(job_id: str, **_others: Any) -> Response:
        record = find(job_id)
        if record.result is None or "result" not in resolve().settings.expose:
            return problem_response(
                409,
                "result-not-ready",
                "There is no result",
                f"The job is {record.status}, or its result is not shown.",
            )
        return result_response(record)

    @blueprint.delete("/<job_id>")
    def cancel_job(job_id: str, **_others: Any) -> Response:
        find(job_id)
        record = resolve().cancel(job_id)
        if record.status is Status.CANCELLED:
            return answer(record)
        if not record.status.is_final:
            return answer(record, 202)
        return problem_response(
            409,
            "job-not-cancellable",
            "The job cannot be cancelled",
            f"The job is {record.status} already.",
        )

    @blueprint.errorhandler(JobNotFound)
    def job_not_found(error: JobNotFound) -> Response:
        return problem_response(404, "job-not-found", "No such job", NO_SUCH_JOB)

    @blueprint.errorhandler(DecodeError)
    def job_damaged(error: DecodeError) -> Response:
        logger.error("cannot answer for a job: %s", error)
        return problem_response(
            500,
            "job-damaged",
            "The job cannot be shown",
            "What is stored of this job is damaged. Other jobs are not concerned.",
        )

    @blueprint.errorhandler(BrokerError)
    def broker_unavailable(error: BrokerError) -> Response:
        logger.error("cannot answer for a job: %s", error)
        response = problem_response(
            503,
            "broker-unavailable",
            "Jobs cannot be looked up right now",
            "The storage of jobs does not answer. Try again later.",
        )
        response.headers["Retry-After"] = "5"
        return response

    return blueprint
