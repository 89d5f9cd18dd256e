"""Passwords and jobs that cross a network without encryption cause a warning."""

import logging

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.errors import BrokerConnectionError
from tests.support.redis_server import free_port

PASSWORD = "hunter2"


def warnings_of(caplog, url, **options):
    """What connecting has logged; nothing listens there."""
    settings = Settings(broker_url=url, broker_options={"timeout": 100, **options})
    engine = make_engine(settings, Clock())
    with caplog.at_level(logging.WARNING), pytest.raises(BrokerConnectionError):
        engine.connect()
    with pytest.raises(BrokerConnectionError):
        # On a connection of its own, and says nothing more.
        engine.consumer(["default"], "w1").fetch(1, 0)
    engine.close()
    assert PASSWORD not in caplog.text
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("host", ["192.0.2.1", "jobs.invalid", "[2001:db8::1]"])
def test_a_password_that_leaves_the_machine_unencrypted_is_warned_of(caplog, host):
    """Once, and without showing it. These hosts exist nowhere."""
    [text] = warnings_of(caplog, f"redis://:{PASSWORD}@{host}/0")
    assert "the password and all jobs go to" in text
    assert "unencrypted; use rediss://" in text


def test_a_password_in_the_options_is_one_as_well(caplog):
    """It takes the same way."""
    [text] = warnings_of(caplog, "redis://192.0.2.1/0", password=PASSWORD)
    assert "the password and all jobs go to 192.0.2.1:6379" in text


def test_a_server_of_the_network_without_a_password_is_warned_of(caplog):
    """Of both things that are missing, or of the one."""
    texts = warnings_of(caplog, "redis://192.0.2.1/0")
    assert ["all jobs go to" in texts[0], "set a password" in texts[1]] == [True, True]
    caplog.clear()
    [text] = warnings_of(caplog, "rediss://192.0.2.1/0")
    assert "set a password" in text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_what_stays_on_the_machine_is_not_warned_of(caplog, host):
    """Its network is the machine's own memory."""
    port = free_port()
    assert warnings_of(caplog, f"redis://:{PASSWORD}@{host}:{port}/0") == []


def test_a_socket_and_tls_with_a_password_are_not_warned_of(caplog, tmp_path):
    """Nothing is missing."""
    assert warnings_of(caplog, f"unix://:{PASSWORD}@{tmp_path}/none.sock") == []
    assert warnings_of(caplog, f"rediss://:{PASSWORD}@192.0.2.1/0") == []
