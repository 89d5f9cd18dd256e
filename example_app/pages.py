"""The pages, and the view that sends the job.

There is no user and no cookie here, so a forged request could do nothing that its sender
could not do himself. An app with a login protects its forms, as it does without jobs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from flask import abort
from flask import Blueprint
from flask import current_app
from flask import jsonify
from flask import redirect
from flask import render_template
from flask import request
from flask import Response
from flask import send_file
from flask import url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from flask_taskq.errors import JobNotFound
from flask_taskq.errors import ResultFailure
from flask_taskq.errors import ResultMissing

from .tasks import summarise_csv
from .tasks import taskq

pages = Blueprint("pages", __name__)

SAMPLE = Path(__file__).with_name("sample.csv")

#: How long an upload is kept, in seconds. A job that waits longer finds it gone.
UPLOAD_TTL = 24 * 3600


@pages.get("/")
def index() -> str:
    return render_template("index.html")


@pages.get("/sample.csv")
def sample() -> Response:
    return send_file(SAMPLE, as_attachment=True)


@pages.post("/summaries")
def create_summary() -> ResponseReturnValue:
    """Check and keep the file, send the job, and answer at once."""
    if "sample" in request.form:
        content, title = SAMPLE.read_bytes(), SAMPLE.name
    elif file := request.files.get("file"):
        content, title = file.read(), (file.filename or "")[:100]
    else:
        abort(400, "Choose a file first.")
    if not content:
        abort(400, "The file is empty.")
    job = summarise_csv.send(_keep(content), title)
    if _wants_html():  # a browser without JavaScript
        return redirect(url_for("pages.show_summary", job_id=job.id), 303)
    return taskq.accepted(job)


@pages.get("/summaries/<job_id>")
def show_summary(job_id: str) -> ResponseReturnValue:
    """Show the result. While there is none, the page loads itself again."""
    try:
        job = taskq.job(job_id)
        summary = job.get_result()
    except JobNotFound:
        abort(404, "There is no such summary. It was kept for a day.")
    except ResultMissing:
        return render_template("waiting.html", job=job)
    except ResultFailure as failure:
        error = failure.orig_exc_msg or f"The job is {job.status}."
        return render_template("index.html", error=error)
    return render_template("summary.html", summary=summary)


@pages.app_errorhandler(HTTPException)
def show_error(error: HTTPException) -> ResponseReturnValue:
    """An error as the page, or as the JSON that the script reads."""
    if _wants_html():
        return render_template("index.html", error=error.description), error.code or 500
    problem = {"title": error.name, "status": error.code, "detail": error.description}
    response = jsonify(problem)
    response.mimetype = "application/problem+json"
    response.status_code = error.code or 500
    return response


def _wants_html() -> bool:
    # JSON stands first, so that it is what "*/*" gets.
    offers = ["application/json", "text/html"]
    return request.accept_mimetypes.best_match(offers) == "text/html"


def _keep(content: bytes) -> str:
    """Store an upload under a random name, and remove those that nobody needs any more."""
    folder = Path(current_app.config["UPLOAD_FOLDER"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.iterdir():
        with suppress(FileNotFoundError):  # another request may be doing the same
            if old.stat().st_mtime < time.time() - UPLOAD_TTL:
                old.unlink()
    upload = f"{uuid4().hex}.csv"
    Path(folder, upload).write_bytes(content)
    return upload
