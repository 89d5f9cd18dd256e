"""The pages: forms that send jobs, the page of a job, and the list of this browser's jobs."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
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
from flask import session
from flask import url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from flask_taskq import Job
from flask_taskq.errors import JobNotFound

from .own_pages import find_path
from .tasks import add
from .tasks import count_words
from .tasks import send_email
from .tasks import summarise_csv
from .tasks import taskq

pages = Blueprint("pages", __name__)

SAMPLE = Path(__file__).with_name("sample.csv")

#: How long an upload is kept, in seconds. A job that waits longer finds it gone.
UPLOAD_TTL = 24 * 3600

#: How many jobs a browser's list has. A cookie has room for about a hundred.
MAX_LISTED = 20

#: Largest number that the form adds up, on either side of zero.
MAX_NUMBER = 1_000_000_000


@pages.get("/")
def index() -> str:
    return render_template("index.html")


@pages.get("/sample.csv")
def sample() -> Response:
    return send_file(SAMPLE, as_attachment=True)


# Each view checks what it got, sends the job, and answers at once.


@pages.post("/summaries")
def create_summary() -> ResponseReturnValue:
    if "sample" in request.form:
        content, title = SAMPLE.read_bytes(), SAMPLE.name
    elif file := request.files.get("file"):
        content, title = file.read(), (file.filename or "")[:100]
    else:
        abort(400, "Choose a file first.")
    if not content:
        abort(400, "The file is empty.")
    return _accept(summarise_csv.send(_keep(content), title, "slowly" in request.form))


@pages.post("/word-counts")
def create_word_count() -> ResponseReturnValue:
    url = request.form.get("url", "")[:500]
    try:
        find_path(url, current_app.config["OWN_URL"])
    except ValueError as error:
        abort(400, str(error))
    return _accept(count_words.send(url))


@pages.post("/emails")
def create_email() -> ResponseReturnValue:
    to = request.form.get("to", "").strip()
    if not re.fullmatch(r"[\w.+-]{1,64}@[\w.-]{1,100}", to, re.ASCII):
        abort(400, "That is no address for a mail.")
    failing = min(request.form.get("failing", 0, type=int), 100)
    return _accept(send_email.send(to, failing, "catch" in request.form))


@pages.post("/sums")
def create_sum() -> ResponseReturnValue:
    x, y = (request.form.get(name, type=int) for name in "xy")
    if x is None or y is None or max(abs(x), abs(y)) > MAX_NUMBER:
        abort(400, f"Two whole numbers are needed, up to {MAX_NUMBER:,}.")
    return _accept(add.send(x, y))


@pages.get("/results/<job_id>")
def show_job(job_id: str) -> str:
    return render_template("job.html", **_look_at(taskq.get_job_or_404(job_id)))


@pages.post("/results/<job_id>/cancel")
def cancel_job(job_id: str) -> ResponseReturnValue:
    """For a browser without JavaScript. The script uses ``DELETE /jobs/<id>``."""
    taskq.get_job_or_404(job_id).cancel()
    return redirect(url_for("pages.show_job", job_id=job_id), 303)


@pages.get("/my-jobs")
def list_jobs() -> str:
    looks = []
    for job_id in reversed(session.get("jobs", [])):
        with suppress(JobNotFound):  # it was kept long enough
            looks.append(_look_at(taskq.job(job_id)))
    return render_template("jobs.html", looks=looks)


@pages.app_errorhandler(HTTPException)
def show_error(error: HTTPException) -> ResponseReturnValue:
    """An error as a page, or as JSON."""
    if _wants_html():
        return render_template("index.html", error=error.description), error.code or 500
    problem = {"title": error.name, "status": error.code, "detail": error.description}
    response = jsonify(problem)
    response.mimetype = "application/problem+json"
    response.status_code = error.code or 500
    return response


def _accept(job: Job[Any]) -> ResponseReturnValue:
    """Put the job on this browser's list, and tell where it is: 202, or the job's page."""
    session["jobs"] = [*session.get("jobs", []), job.id][-MAX_LISTED:]
    if _wants_html():
        return redirect(url_for("pages.show_job", job_id=job.id), 303)
    return taskq.accepted(job)


def _look_at(job: Job[Any]) -> dict[str, Any]:
    """What the templates need to know of a job."""
    record = job.record
    is_retrying = job.status == "scheduled" and record.attempt > 0
    wait = (record.scheduled_for or 0) - taskq.broker.clock.now()
    return {
        "job": job,
        "record": record,
        "args": job.message.args,
        "status": "retrying" if is_retrying else str(job.status),
        "seconds": max(0, round(wait / 1000)),
        "result": job.get_result() if job.status == "succeeded" else None,
        # As any client is told: not the record's own, whose text is for developers.
        "error": job.as_dict()["error"],
    }


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
