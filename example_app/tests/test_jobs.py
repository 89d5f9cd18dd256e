"""From the upload to the result, without a worker of its own."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from example_app.pages import SAMPLE
from example_app.pages import UPLOAD_TTL
from example_app.tasks import summarise_csv
from example_app.tests.servers import free_port
from example_app.tests.servers import MailSink
from example_app.tests.servers import serve
from flask_taskq.testing import JobTester


def upload(client: FlaskClient, content: bytes, name: str = "data.csv") -> TestResponse:
    return client.post("/summaries", data={"file": (io.BytesIO(content), name)})


def run(taskq_jobs: JobTester, client: FlaskClient, content: bytes) -> dict[str, Any]:
    """Upload, let the job run, and ask for it."""
    job: dict[str, Any] = taskq_jobs.follow(client, upload(client, content)).get_json()
    return job


def test_an_upload_is_answered_before_it_is_read(client: FlaskClient) -> None:
    """The view sends the job and says where to ask for it, and when."""
    response = upload(client, b"a,b\n1,2\n")
    assert response.status_code == 202
    assert response.location == f"/jobs/{response.get_json()['id']}"
    assert int(response.headers["Retry-After"]) >= 1
    assert client.get(response.location).get_json()["status"] == "queued"


def test_an_upload_sends_a_job_with_the_files_title(
    client: FlaskClient, taskq_jobs: JobTester, tmp_path: Path
) -> None:
    """And with the name under which the file was kept, not with the file."""
    upload(client, b"a,b\n1,2\n", name="visits.csv")
    [kept] = (tmp_path / "uploads").iterdir()
    taskq_jobs.assert_enqueued(summarise_csv, args=(kept.name, "visits.csv", False), count=1)


def test_the_job_summarises_the_file(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """Once it has run, the job's resource holds the result."""
    job = run(taskq_jobs, client, b"city,visits\nGraz,3\nGraz,5\nLinz,\n")
    assert job["status"] == "succeeded"
    assert job["result"]["title"] == "data.csv"
    assert job["result"]["rows"] == 3
    city, visits = job["result"]["columns"]
    assert city["most_frequent"][0] == {"value": "Graz", "count": 2}
    assert (visits["missing"], visits["min"], visits["mean"], visits["max"]) == (1, 3, 4, 5)


def test_the_sample_can_be_summarised_without_an_upload(
    client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """The second button of the form sends the file that comes with the app."""
    response = client.post("/summaries", data={"sample": "yes"})
    assert taskq_jobs.follow(client, response).get_json()["result"]["rows"] == 200
    with client.get("/sample.csv") as download:
        assert download.data == SAMPLE.read_bytes()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a,b\n1,2\n3\n", "number of cells is 1, not 2."),
        (b'a,b\n"1,2\n', "Line 2 is not CSV"),
        (b"\x89PNG\r\n\x1a\n\x00", "not a text file in UTF-8"),
        (b"only,a,header\n", "nothing to summarise"),
        (b"," * 300 + b"\n" + b"," * 300, "301 columns"),
    ],
)
def test_a_bad_file_fails_the_job_with_a_reason(
    client: FlaskClient, taskq_jobs: JobTester, content: bytes, error: str
) -> None:
    """What the actor raises is what the user reads; the job does not run again."""
    job = run(taskq_jobs, client, content)
    assert (job["status"], job["attempt"], job["result"]) == ("failed", 1, None)
    assert error in job["error"]["detail"]


def test_a_file_that_is_gone_fails_the_job_with_a_reason(
    client: FlaskClient, taskq_jobs: JobTester, tmp_path: Path
) -> None:
    """The job may have waited for longer than uploads are kept."""
    response = upload(client, b"a,b\n1,2\n")
    for path in (tmp_path / "uploads").iterdir():
        path.unlink()
    error = taskq_jobs.follow(client, response).get_json()["error"]
    assert error["detail"] == "The file is no longer there. Upload it again."


def test_a_job_whose_worker_is_killed_summarises_the_file_again(
    client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """The first run has changed nothing that the second one needs."""
    taskq_jobs.crash_next(summarise_csv)
    job = run(taskq_jobs, client, b"a,b\n1,2\n")
    assert (job["status"], job["result"]["rows"]) == ("succeeded", 1)


def test_a_worker_summarises_many_files_at_the_same_time(
    client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """Each job has its own file, context and outcome."""
    with taskq_jobs.worker(threads=4):
        responses = [upload(client, b"n\n" + b"1\n" * n) for n in range(1, 9)]
    jobs = [client.get(response.location).get_json() for response in responses]
    assert [job["result"]["rows"] for job in jobs] == list(range(1, 9))


def test_a_job_tells_how_far_it_is(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """What it told last is kept with the outcome."""
    progress = run(taskq_jobs, client, b"a,b\n1,2\n3,4\n")["progress"]
    assert (progress["current"], progress["total"]) == (4, 4)
    assert progress["message"] == "Every column is counted"


def test_numbers_are_added(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """The smallest job there is."""
    response = client.post("/sums", data={"x": "2", "y": "-5"})
    assert taskq_jobs.follow(client, response).get_json()["result"] == -3


def test_an_error_that_is_raised_is_retried(client: FlaskClient, taskq_jobs: JobTester) -> None:
    """And fails the job after the last attempt."""
    response = client.post("/emails", data={"to": "ada@example.com", "failing": "100"})
    job = taskq_jobs.follow(client, response).get_json()
    assert (job["status"], job["attempt"], job["max_attempts"]) == ("failed", 5, 5)
    assert "hung up" in job["error"]["detail"]


def test_an_error_that_is_caught_is_a_result(
    client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """The job has succeeded at the first attempt; its result says what went wrong."""
    form = {"to": "ada@example.com", "failing": "100", "catch": "yes"}
    job = taskq_jobs.follow(client, client.post("/emails", data=form)).get_json()
    assert (job["status"], job["attempt"], job["result"]["sent"]) == ("succeeded", 1, False)
    assert "hung up" in job["result"]["reason"]


def test_an_email_reaches_the_mail_server(
    app: Flask, client: FlaskClient, taskq_jobs: JobTester, mail_sink: MailSink
) -> None:
    """With the id of the job, by which a mail that was sent twice can be told."""
    app.config["SMTP_SERVER"] = mail_sink.address
    response = client.post("/emails", data={"to": "ada@example.com"})
    job = taskq_jobs.follow(client, response).get_json()
    assert job["result"] == {"sent": True, "reason": None}
    [mail] = mail_sink.mails
    assert "To: ada@example.com" in mail
    assert job["id"] in mail


def test_an_email_without_a_mail_server_is_logged(
    client: FlaskClient, taskq_jobs: JobTester, caplog: pytest.LogCaptureFixture
) -> None:
    """That is how the example runs when nothing is configured."""
    client.post("/emails", data={"to": "ada@example.com"})
    taskq_jobs.drain()
    assert "To: ada@example.com" in caplog.text


def test_a_mail_server_that_is_away_is_tried_again(
    app: Flask, client: FlaskClient, taskq_jobs: JobTester, mail_sink: MailSink
) -> None:
    """Nothing listens at the first attempt."""
    app.config["SMTP_SERVER"] = f"127.0.0.1:{free_port()}"
    response = client.post("/emails", data={"to": "ada@example.com"})
    assert (
        taskq_jobs.run_next().record.attempts[0].error.type.endswith("ConnectionRefusedError")
    )
    app.config["SMTP_SERVER"] = mail_sink.address
    job = taskq_jobs.follow(client, response).get_json()
    assert (job["status"], job["attempt"]) == ("succeeded", 2)


def test_the_words_of_an_own_page_are_counted(
    app: Flask, client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """Markup does not count. The page comes over the network, from a server of this test."""
    app.add_url_rule("/hello", view_func=lambda: "<h1 class='a b'>Hello,</h1> <p>big world</p>")
    with serve(app) as url:
        app.config["OWN_URL"] = url
        response = client.post("/word-counts", data={"url": f"{url}/hello"})
        job = taskq_jobs.follow(client, response).get_json()
    assert job["result"] == {"url": f"{url}/hello", "words": 3}


def test_a_page_that_does_not_exist_is_not_asked_for_again(
    app: Flask, client: FlaskClient, taskq_jobs: JobTester
) -> None:
    """One that cannot be reached is."""
    with serve(app) as url:
        app.config["OWN_URL"] = url
        response = client.post("/word-counts", data={"url": f"{url}/nowhere"})
        job = taskq_jobs.follow(client, response).get_json()
    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert job["error"]["detail"] == "The server answered 404 NOT FOUND."
    response = client.post("/word-counts", data={"url": f"{url}/"})
    assert taskq_jobs.follow(client, response).get_json()["attempt"] == 3


def test_the_name_of_an_upload_is_no_path(client: FlaskClient, tmp_path: Path) -> None:
    """Files get random names, so that nobody can choose where they are written."""
    upload(client, b"a,b\n1,2\n", name="../../evil.csv")
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.parent == tmp_path / "uploads"
    assert "evil" not in path.name


def test_old_uploads_are_removed_with_the_next_one(client: FlaskClient, tmp_path: Path) -> None:
    """Not by the job, which may have to run again."""
    upload(client, b"a,b\n1,2\n")
    [old] = (tmp_path / "uploads").iterdir()
    long_ago = old.stat().st_mtime - UPLOAD_TTL - 60
    os.utime(old, (long_ago, long_ago))
    upload(client, b"a,b\n1,2\n")
    assert not old.exists()
    assert len(list((tmp_path / "uploads").iterdir())) == 1
