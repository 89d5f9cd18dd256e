"""``make screenshots``: the picture of the example app in the README, from the app as it is."""

import sys
import tempfile
from pathlib import Path

from example_app.tests.demo_process import Demo
from tests.support.browser import Browser
from tests.support.browser import find_browser

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "example.png"

#: README and documentation are loaded often, over any line.
MAX_SIZE = 200_000


def main() -> int:
    program = find_browser()
    if program is None:
        print("There is no Chromium. Install it: make browser", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        demo = Demo(Path(folder))
        try:
            demo.wait_until_ready()
            browser = Browser(program, Path(folder, "browser"))
            try:
                take(browser, f"http://{demo.netloc}/")
            finally:
                browser.close()
        finally:
            demo.end()
    size = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(Path.cwd())}: {size:,} bytes")
    return 0 if size <= MAX_SIZE else 1


def take(browser: Browser, url: str) -> None:
    browser.resize(1080, 820)
    browser.open(url)
    browser.click("input[name=slowly]")
    browser.click("button[name=sample]")
    browser.wait_for("document.querySelector('figure svg')")
    browser.screenshot(PICTURE, whole=False)


if __name__ == "__main__":
    sys.exit(main())
