"""Jobs over HTTP: ``GET /jobs/<id>`` shows a job, ``DELETE`` cancels it."""

from .blueprint import answer_not_found
from .blueprint import make_jobs_blueprint
from .blueprint import NO_SUCH_JOB
from .resource import job_dict
from .resource import job_resource
from .resource import job_response
from .resource import shown_status
from .urls import job_path
from .urls import job_url
from .urls import refuse_taken_prefix

__all__ = [
    "NO_SUCH_JOB",
    "answer_not_found",
    "job_dict",
    "job_path",
    "job_resource",
    "job_response",
    "job_url",
    "make_jobs_blueprint",
    "refuse_taken_prefix",
    "shown_status",
]
