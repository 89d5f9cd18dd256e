"""The page on HTTP says what the code does, and its example runs."""

import re
import textwrap
from pathlib import Path

import pytest

from flask_taskq.http.resource import ERROR_TITLES
from flask_taskq.testing import drain

PAGE = (Path(__file__).parents[2] / "docs" / "http.rst").read_text()


def test_the_page_lists_every_code_with_its_title():
    """Clients rely on both."""
    [table] = re.findall(r"^=+ +=+ +=+\n``code``.*?\n=.*?\n(.*?)^=", PAGE, re.M | re.S)
    start, end = re.search(r"^(?=(``exception`` +))", table, re.M).end(1), 58
    titles = {}
    for line in table.splitlines():
        name, title = line[:start].strip(), line[start:end].strip()
        if name:
            code = name.strip("`")
            titles[code] = title
        elif title:
            titles[code] += f" {title}"
    assert titles == ERROR_TITLES


@pytest.fixture
def guarded(monkeypatch):
    """The module of the example."""
    monkeypatch.setenv("FLASK_TASKQ_BROKER_URL", "memory://")
    monkeypatch.setenv("FLASK_SECRET_KEY", "for the session")
    [source] = re.findall(r":caption: ``guarded\.py``\n((?: +.*\n|\n)+)", PAGE)
    namespace = {"__name__": "guarded"}
    exec(compile(textwrap.dedent(source), "guarded.py", "exec"), namespace)
    return namespace


def test_the_guard_of_the_page_lets_only_the_sender_see_a_job(guarded):
    """To everybody else it looks as if there were none."""
    app = guarded["create_app"]()
    owner, stranger = app.test_client(), app.test_client()
    url = owner.post("/sums").headers["Location"]
    assert url.startswith("/jobs/")
    drain(app)
    assert owner.get(url).json["result"] == 3
    answers = [stranger.get(url), stranger.get(f"/jobs/{'0' * 32}"), stranger.delete(url)]
    assert {answer.status_code for answer in answers} == {404}
    assert len({(answer.data, str(answer.headers)) for answer in answers}) == 1
