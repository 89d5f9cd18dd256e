"""The app as its tests use it: jobs in memory, uploads in a folder of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from example_app import create_app
from example_app.tests.servers import MailSink


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """An app whose jobs wait in memory until a test runs them."""
    return create_app(
        {
            "TESTING": True,
            "SECRET_KEY": "only for tests",
            "TASKQ_BROKER_URL": "memory://",
            "UPLOAD_FOLDER": tmp_path / "uploads",
        }
    )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that, like the page's script, wants JSON."""
    return app.test_client()


@pytest.fixture
def mail_sink() -> Iterator[MailSink]:
    """A mail server of the test's own."""
    with MailSink() as sink:
        thread = threading.Thread(target=sink.serve_forever, args=(0.02,))
        thread.start()
        yield sink
        sink.shutdown()
        thread.join()
