"""The app's actors. They belong to ``taskq``, which gets its app in the factory."""

from __future__ import annotations

from pathlib import Path

from flask import current_app

from flask_taskq import TaskQ

from .summary import summarise
from .summary import Summary

taskq = TaskQ()


# No retries: a file that cannot be read now cannot be read later. (A job whose worker
# dies runs again all the same; that is no failure of the job's.)
@taskq.actor(max_retries=0)
def summarise_csv(upload: str, title: str) -> Summary:
    """Summarise an uploaded file.

    :param upload: its name in the upload folder. A message is no place for the file: it is
        kept as long as the job's record, and has a limit of 256 KiB.
    :param title: what the user calls it.
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
    return summarise(content, title)
