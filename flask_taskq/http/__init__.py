"""Jobs over HTTP: ``GET /jobs/<id>`` tells how a job is, ``DELETE`` cancels it."""

from .blueprint import make_jobs_blueprint
from .resource import job_resource
from .resource import job_response
from .resource import job_url
from .resource import shown_status

__all__ = [
    "job_resource",
    "job_response",
    "job_url",
    "make_jobs_blueprint",
    "shown_status",
]
