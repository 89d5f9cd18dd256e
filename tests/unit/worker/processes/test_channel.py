"""What a supervisor and a child say to each other."""

import os
import socket

import msgspec
import pytest

from flask_taskq.config import Settings
from flask_taskq.worker.processes.channel import Checked
from flask_taskq.worker.processes.channel import ChildSpec
from flask_taskq.worker.processes.channel import Configured
from flask_taskq.worker.processes.channel import ControlChannel
from flask_taskq.worker.processes.channel import Died
from flask_taskq.worker.processes.channel import Drain
from flask_taskq.worker.processes.channel import Quit
from flask_taskq.worker.processes.channel import Ready
from flask_taskq.worker.processes.channel import Refused
from flask_taskq.worker.processes.channel import ReplaceRequest
from flask_taskq.worker.processes.channel import Serves
from flask_taskq.worker.processes.channel import UnreadableMessageError


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    yield ControlChannel(one), ControlChannel(other)
    one.close()
    other.close()


@pytest.mark.parametrize(
    "message",
    [
        Configured(
            Settings(broker_url="memory://", max_retries=None),
            ["default", "slow"],
            {"add": "slow"},
        ),
        Checked(["shop.jobs"], ["no such key"]),
        Serves(["late"]),
        Ready(),
        Refused("usage", "no app\nat all: ü"),
        ReplaceRequest("it has run 7 jobs", soon=True),
        Drain(25_000),
        Drain(None),
        Quit(),
        Died("w1", -9, ["0" * 32]),
    ],
)
def test_a_word_arrives_as_it_was_said(ends, message):
    """Every message there is."""
    one, other = ends
    one.send(message)
    assert other.receive() == [message]


def test_who_does_not_listen_is_noticed_before_it_is_waited_for(ends):
    """A frozen child leaves all that it is told in the socket; its supervisor must not wait."""
    one, other = ends
    death = Died("w1", -9, ["0" * 32] * 8)
    said = 0
    while one.is_read():
        one.send(death)
        said += 1
    heard = 0
    while heard < said:
        heard += len(other.receive())
    assert one.is_read()


def test_words_arrive_in_order(ends):
    """Also when they arrive together."""
    one, other = ends
    for message in (Ready(), Drain(1), Quit()):
        one.send(message)
    assert other.receive() == [Ready(), Drain(1), Quit()]


def test_a_word_in_pieces_is_put_together(ends):
    """A stream has no borders."""
    one, other = ends
    data = msgspec.json.encode(Drain(7)) + b"\n"
    one._socket.sendall(data[:5])
    assert other.receive() == []
    one._socket.sendall(data[5:] + data[:3])
    assert other.receive() == [Drain(7)]
    one._socket.sendall(data[3:])
    assert other.receive() == [Drain(7)]


def test_a_closed_end_is_noticed_by_listening(ends):
    """Nothing was said, and nothing will be."""
    one, other = ends
    one.close()
    assert other.is_open
    assert other.receive() == []
    assert not other.is_open


def test_what_was_said_before_closing_arrives(ends):
    """The reason why a child gave up is said last."""
    one, other = ends
    one.send(Refused("engine", "no"))
    one.close()
    assert other.receive() == [Refused("engine", "no")]
    assert other.receive() == []
    assert not other.is_open


def test_talking_to_a_closed_end_is_no_error(ends):
    """A child may die at any time."""
    one, other = ends
    other.close()
    one.send(Ready())
    one.send(Ready())
    assert not one.is_open


def test_an_end_can_be_waited_on(ends):
    """Together with other files."""
    one, _ = ends
    assert os.fstat(one.fileno())


def test_a_spec_survives_the_command_line():
    """It is what a child is started with."""
    spec = ChildSpec(
        worker_id="ab",
        channel=3,
        slots=4,
        threads=8,
        queues=None,
        grace=None,
        connect_timeout=0,
    )
    text = msgspec.json.encode(spec).decode()
    assert msgspec.json.decode(text, type=ChildSpec) == spec


def test_half_a_surrogate_pair_arrives_escaped(ends):
    """As in the name of a file that is not UTF-8; JSON has no other way to write it."""
    one, other = ends
    one.send(Refused("app", "no such file: odd\udce9.toml"))
    one.send(Configured(Settings(broker_url="sqlite:///\udce9"), ["default"], {}))
    refused, configured = other.receive()
    assert refused.text == r"no such file: odd\udce9.toml"
    assert configured.settings.broker_url == r"sqlite:///\udce9"


@pytest.mark.parametrize(
    "data",
    [b"hello\n", b"\xff\xfe\n", b"{}\n", b"[" * 10_000 + b"\n", b'{"type":"ReplaceRequest"}\n'],
)
def test_what_nobody_says_is_an_error_of_its_own(ends, data):
    """A job may write to any descriptor. What comes later can be heard."""
    one, other = ends
    one._socket.sendall(data)
    with pytest.raises(UnreadableMessageError):
        other.receive()
    one.send(Quit())
    assert other.receive() == [Quit()]


def test_what_has_no_end_is_not_kept(ends, monkeypatch):
    """The other end would need ever more memory."""
    monkeypatch.setattr("flask_taskq.worker.processes.channel._LONGEST", 1_000)
    one, other = ends
    one._socket.sendall(b"x" * 1_001)
    with pytest.raises(UnreadableMessageError):
        other.receive()


def test_an_end_whose_descriptor_is_another_file_is_not_whole(ends, tmp_path):
    """A job has closed it, and the next file that is opened gets its number."""
    one, _ = ends
    assert one.is_whole()
    descriptor = os.dup(one.fileno())
    os.close(one.fileno())
    assert not one.is_whole()
    with open(tmp_path / "other", "w") as file:
        os.dup2(file.fileno(), one.fileno())
    assert not one.is_whole()
    os.dup2(descriptor, one.fileno())
    os.close(descriptor)
    assert one.is_whole()
