"""Other ways to a server than plain TCP: TLS, and a socket of the machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from flask_taskq.errors import BrokerConnectionError
from flask_taskq.errors import ConfigurationError
from flask_taskq.jobs.record import Status
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.redis_server import free_port
from tests.support.redis_server import RedisServer

from .test_outages import in_background
from .test_outages import NET
from .test_outages import NET_SECONDS
from .test_outages import wait_until_blocked

START = Callable[..., RedisServer]
NEW_BENCH = Callable[..., Bench]

PASSWORD = "hunter2"


class Authority:
    """Signs certificates, in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=authority"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for a name, as OpenSSL writes it (``IP:127.0.0.1``), and its key."""
        stem = self.folder / name.replace(":", "-")
        request, key, certificate = (stem.with_suffix(end) for end in (".csr", ".key", ".crt"))
        names = stem.with_suffix(".ext")
        names.write_text(f"subjectAltName={name}")
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=server", "-keyout", key, "-out", request),
        )
        openssl(
            *("x509", "-req", "-in", request, "-days", "2", "-extfile", names),
            *("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-out", certificate),
        )
        return certificate, key


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def start_tls_server(start_server: START, authority: Authority) -> Callable[..., RedisServer]:
    """Starts servers that ask for a password, and whose certificates are for a name. Their
    other port, without TLS, is the test's way behind the engine."""

    def start(name: str = "IP:127.0.0.1", clients: str = "no") -> RedisServer:
        certificate, key = authority.sign(name)
        return start_server(
            tls_port=str(free_port()),
            tls_cert_file=str(certificate),
            tls_key_file=str(key),
            tls_ca_cert_file=str(authority.certificate),
            tls_auth_clients=clients,
            requirepass=PASSWORD,
        )

    return start


def tls_url(server: RedisServer, **options: object) -> str:
    port = server.options["tls-port"]
    return f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?{urlencode(options)}"


def check_work(server: RedisServer, bench: Bench) -> None:
    """A worker that waits gets what is sent, and settles it."""
    fetching = in_background(bench.worker().fetch, 1, NET)
    wait_until_blocked(server)
    job_id = bench.send()
    [delivery] = fetching.result(NET_SECONDS)
    assert None not in bench.settle(done(delivery)).outcomes
    assert (delivery.id, bench.status(job_id)) == (job_id, Status.SUCCEEDED)


def test_a_worker_and_a_sender_meet_over_tls(
    start_tls_server: START, new_bench: NEW_BENCH, authority: Authority
) -> None:
    """By an authority of one's own, which the URL names."""
    server = start_tls_server()
    bench = new_bench(tls_url(server, ssl_ca_certs=authority.certificate))
    check_work(server, bench)


def test_many_jobs_pass_through_tls(
    start_tls_server: START, new_bench: NEW_BENCH, authority: Authority
) -> None:
    """More than one of its records holds, in both directions."""
    bench = new_bench(tls_url(start_tls_server(), ssl_ca_certs=authority.certificate))
    ids = bench.send_many(500, message=b"x" * 1_000)
    deliveries = bench.worker().fetch(500, NET)
    assert [one.id for one in deliveries] == ids
    assert {one.message for one in deliveries} == {b"x" * 1_000}


def test_a_server_can_ask_for_a_certificate(
    start_tls_server: START, new_bench: NEW_BENCH, authority: Authority
) -> None:
    """With one it lets a worker in, and without one it does not."""
    server = start_tls_server(clients="yes")
    certificate, key = authority.sign("DNS:worker")
    with_one = {"ssl_certfile": certificate, "ssl_keyfile": key}
    check_work(
        server, new_bench(tls_url(server, ssl_ca_certs=authority.certificate, **with_one))
    )
    url = tls_url(server, ssl_ca_certs=authority.certificate, timeout=500)
    with pytest.raises(BrokerConnectionError, match="cannot be reached"):
        new_bench(url).engine.connect()


def test_a_certificate_of_an_unknown_authority_is_refused(
    start_tls_server: START, new_bench: NEW_BENCH, tmp_path: Path
) -> None:
    """The error says so, and what to set, without the password."""
    server = start_tls_server()
    other = Authority(tmp_path / "other")
    for options in ({"ssl_ca_certs": other.certificate}, {}):
        bench = new_bench(tls_url(server, **options))
        with pytest.raises(ConfigurationError, match="ssl_ca_certs") as caught:
            bench.engine.connect()
        assert PASSWORD not in str(caught.value)


def test_a_certificate_for_another_name_is_refused(
    start_tls_server: START, new_bench: NEW_BENCH, authority: Authority
) -> None:
    """Unless that check is turned off."""
    server = start_tls_server("DNS:jobs.example.com")
    url = tls_url(server, ssl_ca_certs=authority.certificate)
    with pytest.raises(ConfigurationError, match="not valid for '127.0.0.1'; "):
        new_bench(url).engine.connect()
    new_bench(f"{url}&ssl_check_hostname=false").engine.connect()


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_is_not_there_is_named(new_bench: NEW_BENCH, option: str) -> None:
    """It is no fault of the network, which would be tried again for ever."""
    with pytest.raises(ConfigurationError, match=f"{option} is '/nowhere/jobs.pem'"):
        new_bench(f"rediss://127.0.0.1/0?{option}=/nowhere/jobs.pem")


def test_a_worker_and_a_sender_meet_at_a_socket(
    start_server: START, new_bench: NEW_BENCH, tmp_path: Path
) -> None:
    """Nothing about it needs a network."""
    path = tmp_path / "redis.sock"
    server = start_server(unixsocket=str(path), requirepass=PASSWORD)
    bench = new_bench(f"unix://:{PASSWORD}@{path}?db=3")
    check_work(server, bench)
    with server.connect(db=3) as client:
        assert client.dbsize() > 0


def test_a_socket_that_is_not_there_is_named(new_bench: NEW_BENCH, tmp_path: Path) -> None:
    """Without the password."""
    path = tmp_path / "redis.sock"
    with pytest.raises(BrokerConnectionError, match=str(path)) as caught:
        new_bench(f"unix://:{PASSWORD}@{path}").engine.connect()
    assert PASSWORD not in str(caught.value)
