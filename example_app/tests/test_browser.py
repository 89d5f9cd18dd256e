"""The app in a real browser, with the server and the worker of ``make demo``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from example_app.pages import SAMPLE
from example_app.tests.demo_process import Demo
from example_app.tests.demo_process import ROOT
from tests.support.browser import Browser
from tests.support.browser import find_browser

pytest.importorskip("gunicorn")

#: Where the screenshots of these tests are, to be looked at.
SCREENSHOTS = ROOT / "build" / "screenshots"

#: By name of its screenshots: width and height in CSS pixels, and whether it is dark.
SCREENS = {
    "1280-light": (1280, 800, False),
    "1280-dark": (1280, 800, True),
    "390-light": (390, 844, False),
    "390-dark": (390, 844, True),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests: to start it takes longer than most of them."""
    program = find_browser()
    if program is None:
        reason = "there is no Chromium: install the package chromium, or run make browser"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    browser = Browser(program, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pause(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long jobs rest after each step, in seconds. They have to run for as long as the
    browser needs to show that they do, however slow the machine is."""
    began = time.monotonic()
    for width, height, _ in SCREENS.values():
        browser.resize(width, height)
        browser.screenshot(tmp_path_factory.mktemp("blank") / "blank.png")
    return max(0.05, (time.monotonic() - began) / 5)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, pause: float) -> Iterator[str]:
    """The address of a demo, which hurries a little."""
    demo = Demo(tmp_path_factory.mktemp("demo"), FLASK_PAUSE=str(pause))
    try:
        demo.wait_until_ready()
        yield f"http://{demo.netloc}"
    finally:
        demo.end()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Browser]:
    """The start page, in a browser that was never here. At the end nothing may have gone
    wrong in it that only its console tells.
    """
    browser.command("Network.clearBrowserCookies")
    browser.resize(1280, 800)
    browser.complaints.clear()
    browser.open(f"{address}/")
    yield browser
    assert browser.complaints == []


def take_screenshots(browser: Browser, name: str) -> None:
    for screen, (width, height, dark) in SCREENS.items():
        browser.resize(width, height, dark=dark)
        # What is wider than the screen would make a phone scroll sideways.
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), screen
        path = browser.screenshot(SCREENSHOTS / f"{name}-{screen}.png")
        assert path.stat().st_size > 5_000
    browser.resize(1280, 800)


def status_is(status: str, more: str = "") -> str:
    return f"document.querySelector('article[data-status={status}]{more}')"


def test_a_file_is_uploaded_and_its_charts_are_seen(page: Browser) -> None:
    """The bar shows what is done as soon as it is known, grows on the way, and then the
    table and the charts take its place."""
    take_screenshots(page, "start")
    page.choose_files("#file", [SAMPLE])
    page.click("form[action='/summaries'] button")
    page.wait_for("(window.first = document.querySelector('progress').cloneNode()).value > 0")
    assert page.run("first.className") == ""
    page.wait_for("document.querySelector('progress.moving').value > first.value")
    take_screenshots(page, "running")
    page.wait_for(status_is("succeeded"))
    assert page.run("document.querySelectorAll('figure svg rect').length") > 20
    assert page.run("document.querySelectorAll('tbody tr').length") == 11
    assert page.run("document.querySelector('progress')") is None
    take_screenshots(page, "summary")


def test_a_job_is_cancelled_while_it_runs(page: Browser) -> None:
    """The page says so by itself when the actor has heard of it."""
    page.click("button[name=sample]")
    page.wait_for("document.querySelector('progress').value > 0")
    page.click("[data-cancel] button")
    page.wait_for(status_is("cancelled"))
    assert page.run("document.querySelector('[data-cancel]')") is None
    assert "It will not run again." in page.run("document.body.innerText")
    take_screenshots(page, "cancelled")


def test_a_retry_is_watched(page: Browser) -> None:
    """Each attempt shows up with its number and error, and the seconds to the next pass."""
    page.run("document.querySelector('#failing').value = '100'")
    page.click("form[action='/emails'] button")
    page.wait_for(status_is("retrying", '[data-attempt="1"]'))
    page.run("window.before = Number(document.querySelector('[data-seconds]').textContent)")
    page.wait_for("Number(document.querySelector('[data-seconds]').textContent) < before")
    page.wait_for(status_is("retrying", '[data-attempt="2"]'))
    assert "Attempt 2 of 5 failed." in page.run("document.body.innerText")
    assert page.run("document.querySelectorAll('.attempts li').length") == 2
    take_screenshots(page, "retrying")


def test_an_error_that_the_actor_caught_is_shown_as_its_result(page: Browser) -> None:
    """The job has succeeded: it did what it is for in such a case."""
    page.run("document.querySelector('#failing').value = '100'")
    page.click("input[name=catch]")
    page.click("form[action='/emails'] button")
    page.wait_for(status_is("succeeded"))
    assert "Not sent" in page.run("document.body.innerText")


def test_the_words_of_a_page_are_counted(page: Browser) -> None:
    """The demo has told its worker where the app is reached."""
    page.click("form[action='/word-counts'] button")
    page.wait_for(status_is("succeeded"))
    assert int(page.run("document.querySelector('output').innerText")) > 50


def test_a_page_of_another_server_is_refused(page: Browser) -> None:
    """The form is there again, with the reason."""
    page.run("document.querySelector('#url').value = 'http://example.com/'")
    page.click("form[action='/word-counts'] button")
    page.wait_for("document.querySelector('[role=alert]')")
    assert "Only pages of this app" in page.run("document.body.innerText")
    page.complaints.clear()  # the console has a line for the status 400, as it should


def test_the_list_of_jobs_stays_up_to_date(page: Browser, address: str) -> None:
    """A job that was running when the list was opened ends there before one's eyes."""
    page.click("form[action='/sums'] button")
    page.wait_for(status_is("succeeded"))
    page.open(f"{address}/")
    page.click("button[name=sample]")
    page.wait_for(status_is("running"))
    page.open(f"{address}/my-jobs")
    assert page.run("document.querySelectorAll('article').length") == 2
    assert page.run(f"Boolean({status_is('running')})")
    take_screenshots(page, "list")
    page.wait_for("document.querySelectorAll('article[data-status=succeeded]').length === 2")


def test_a_form_of_another_site_is_refused(page: Browser) -> None:
    """Such a page could otherwise send jobs in the name of its visitor."""
    action = page.run("location.origin + '/sums'")
    form = (
        f"<form method=post action={action}><input name=x value=1><input name=y value=2>"
        "<button>Win</button></form>"
    )
    page.open(f"data:text/html,{quote(form)}")
    page.click("button")
    page.wait_for("document.querySelector('[role=alert]')")
    assert "comes from another site" in page.run("document.body.innerText")
    page.complaints.clear()  # as above, for the status 403


def test_a_job_is_followed_without_scripts(page: Browser) -> None:
    """The page loads itself again until the job is done."""
    page.set_scripts(enabled=False)
    try:
        page.click("button[name=sample]")
        seen = []
        while "succeeded" not in seen:
            page.wait_for_load()
            seen.append(page.run("document.querySelector('article').dataset.status"))
        assert "running" in seen
    finally:
        page.set_scripts(enabled=True)
    assert page.run("document.querySelectorAll('figure svg').length") > 3
