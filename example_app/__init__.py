"""An app to copy from: forms that send jobs, and pages that show how these are.

``tasks.py`` declares the actors, ``pages.py`` sends them, ``static/jobs.js`` asks how they are.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import abort
from flask import Flask
from flask import request
from flask import Response

from .pages import pages
from .tasks import taskq

#: Scripts and styles come from files of this app and from nowhere else.
_CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the app.

    :param config: wins over the environment, where ``FLASK_TASKQ_BROKER_URL`` sets
        ``TASKQ_BROKER_URL``, and so on. With neither, jobs live in the instance folder.
    """
    app = Flask(__name__)
    app.config.from_mapping(
        UPLOAD_FOLDER=Path(app.instance_path, "uploads"),
        MAX_CONTENT_LENGTH=8 * 1024 * 1024,
        SESSION_COOKIE_SAMESITE="Lax",
        # Where the app is reached: the only address that count_words() asks.
        OWN_URL="http://127.0.0.1:5000",
        # A mail sink, such as "127.0.0.1:1025". With None, mails go to the log.
        SMTP_SERVER=None,
        # How long a job that is sent "slowly" rests after each step, in seconds.
        PAUSE=0.1,
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = _load_secret_key(Path(app.instance_path, "secret_key"))
    taskq.init_app(app)
    app.register_blueprint(pages)
    app.before_request(_refuse_other_sites)
    app.after_request(_add_security_headers)
    return app


def _load_secret_key(path: Path) -> str:
    """The key that signs the session, made once for all processes of this app."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with open(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex())
        with suppress(FileExistsError):  # another process was faster: its key counts
            os.link(mine, path)
        mine.unlink()
    return path.read_text()


def _refuse_other_sites() -> None:
    """No page of another site can send a form or cancel a job in the name of this browser.

    Browsers say where a request comes from. What says nothing, such as curl, is no browser,
    and has no cookie that somebody else could make use of.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none") or (
        origin is not None and urlsplit(origin).netloc != request.host
    ):
        abort(403, "This request comes from another site.")


def _add_security_headers(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response
