"""The app's actors. They belong to ``taskq``, which gets its app in the factory."""

from __future__ import annotations

import random
import re
import smtplib
import time
from email.message import EmailMessage
from pathlib import Path
from typing import TypedDict

from flask import current_app

from flask_taskq import current_job
from flask_taskq import TaskQ

from .own_pages import fetch
from .summary import summarise
from .summary import Summary

taskq = TaskQ()


class Words(TypedDict):
    """How many words a page has."""

    url: str
    words: int


class Delivery(TypedDict):
    """Whether a mail was sent, and if not, why."""

    sent: bool
    reason: str | None


@taskq.actor
def add(x: int, y: int) -> int:
    return x + y


# No retries: a file that cannot be read now cannot be read later. (A job whose worker
# dies runs again all the same; that is no failure of the job's.)
# The client that uploads a file may read what is wrong with it; of other errors it learns
# only that the job failed.
@taskq.actor(max_retries=0, public_errors=ValueError)
def summarise_csv(upload: str, title: str, slowly: bool = False) -> Summary:
    """Summarise an uploaded file.

    :param upload: its name in the upload folder. A message is no place for the file: it is
        kept as long as the job's record, and has a limit of 256 KiB.
    :param title: what the user calls it.
    :param slowly: rest after each step, for those who want to watch.
    :raises ValueError: it is no CSV file; the text is for the user, who finds it in
        ``/jobs/<id>``.
    """
    # A job may run twice, when its worker dies at the wrong moment. So it changes nothing,
    # and leaves the file where it is: pages.py removes old ones.
    path = Path(current_app.config["UPLOAD_FOLDER"], upload)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError("The file is no longer there. Upload it again.") from None

    def tell(current: int, total: int, doing: str) -> None:
        current_job.check_cancelled()
        current_job.progress(current, total, doing)
        if slowly:
            time.sleep(current_app.config["PAUSE"])

    return summarise(content, title, tell)


# An address that is not allowed will not be allowed later. All other errors are retried.
@taskq.actor(throws=ValueError, max_retries=2, min_backoff=2_000, public_errors=ValueError)
def count_words(url: str) -> Words:
    """Count the words on one of the app's own pages.

    :raises ValueError: it is no page of the app's own. The view has checked that, but what
        is in a queue may come from elsewhere.
    :raises OSError: the page cannot be had right now.
    """
    text = re.sub(r"<[^>]*>", " ", fetch(url, current_app.config["OWN_URL"]))
    return Words(url=url, words=len(re.findall(r"\w+", text)))


# With backoffs that one can wait for. The defaults begin at 15 seconds.
@taskq.actor(max_retries=4, min_backoff=2_000, max_backoff=8_000, public_errors=ConnectionError)
def send_email(to: str, failing: int = 0, catch: bool = False) -> Delivery:
    """Send a mail, and show both ways to handle an error.

    :param to: the address.
    :param failing: how many of a hundred attempts fail, so that one can watch.
    :param catch: handle an error here: it becomes a result, and the job has succeeded.
        Otherwise it is raised: the job runs again later, and fails after the last attempt.
    :raises OSError: the mail could not be handed over.
    """
    try:
        if random.randrange(100) < failing:
            raise ConnectionError("The mail server hung up (as it was asked to).")
        _deliver(to)
    except OSError as error:
        if not catch:
            raise
        return Delivery(sent=False, reason=str(error))
    return Delivery(sent=True, reason=None)


def _deliver(to: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"] = "example@localhost", to
    mail["Subject"] = "Hello from a job"
    # The same for each attempt, so that a recipient of both can recognize it.
    mail["Message-ID"] = f"<{current_job.id}@localhost>"
    mail.set_content("A worker sent this, and the web server did not have to wait for it.")
    server = current_app.config["SMTP_SERVER"]
    if server is None:
        current_app.logger.warning("No SMTP_SERVER, so here is the mail:\n%s", mail)
        return
    with smtplib.SMTP(server, timeout=10) as smtp:
        smtp.send_message(mail)
