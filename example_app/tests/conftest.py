"""The app as its tests use it: jobs in memory, uploads in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from example_app import create_app


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """An app whose jobs wait in memory until a test drains them."""
    return create_app(
        {
            "TESTING": True,
            "TASKQ_BROKER_URL": "memory://",
            "UPLOAD_FOLDER": tmp_path / "uploads",
        }
    )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that, like the page's script, wants JSON."""
    return app.test_client()
