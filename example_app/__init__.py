"""An app to copy from: upload a CSV file, and a job summarises it.

``tasks.py`` declares the actor, ``pages.py`` sends it, ``static/upload.js`` asks how it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
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
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    taskq.init_app(app)
    app.register_blueprint(pages)
    app.after_request(_add_security_headers)
    return app


def _add_security_headers(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response
