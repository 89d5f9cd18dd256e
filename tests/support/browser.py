"""Chromium without a window, driven over the DevTools protocol.

The protocol comes over two pipes, as JSON with a NUL after each message, which needs neither
a port nor a package. (A driver such as selenium brings a program of its own, whose version
has to fit that of the browser.)
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Final

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")

#: How long one answer of the browser may take, and one condition to become true, in seconds.
PATIENCE: Final = 20

#: Without a sandbox, which it does not have as root; it opens no page but those of the tests.
OPTIONS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

#: Looks with each frame, which also comes when nothing in the document changes.
_WAIT: Final = """
new Promise((resolve) => {
  const until = performance.now() + %d;
  const look = () => {
    let found = false;
    try { found = Boolean(document.readyState === "complete" && (%s)); } catch {}
    if (found || performance.now() > until) resolve(found);
    else requestAnimationFrame(look);
  };
  look();
})
"""


class BrowserError(AssertionError):
    """The browser said no to a command."""


def find_browser() -> str | None:
    """The program; None if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """A browser with one page.

    :param program: what :func:`find_browser` found.
    :param folder: for its profile, which is not kept.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._number = 0
        self._buffer = b""
        self._session: str | None = None
        self._loads = 0
        #: What went wrong in the page: exceptions of scripts, and what the policy forbade.
        self.complaints: list[str] = []
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._pid = os.posix_spawn(
            program,
            [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            os.environ,
            file_actions=[
                # By way of high numbers: one of the two may stand where the other has to go.
                (os.POSIX_SPAWN_DUP2, theirs_in, 103),
                (os.POSIX_SPAWN_DUP2, theirs_out, 104),
                (os.POSIX_SPAWN_DUP2, 103, 3),
                (os.POSIX_SPAWN_DUP2, 104, 4),
                (os.POSIX_SPAWN_CLOSE, 103),
                (os.POSIX_SPAWN_CLOSE, 104),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._open_page()

    def _open_page(self) -> None:
        page = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def close(self) -> None:
        """End it, with all of its processes."""
        os.close(self._out)  # it ends with its pipe, and says so at the end of the other one
        while select.select([self._in], [], [], 5)[0] and os.read(self._in, 1 << 20):
            pass
        os.close(self._in)
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self._pid, 0)

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE + 5
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, until - time.monotonic()))
            chunk = os.read(self._in, 1 << 20) if ready else b""
            if not chunk:
                raise BrowserError("the browser has ended, or does not answer")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Page.loadEventFired":
            self._loads += 1
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            entry = params["entry"]
            if entry["level"] == "error":
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    # What a test says

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        self.command("Page.navigate", url=url)
        self.wait_for(f"location.href === {json.dumps(url)}")

    def run(self, expression: str, *, by_value: bool = True) -> Any:
        """The value of an expression of JavaScript, or of its promise."""
        answer = self.command(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=by_value,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value") if by_value else answer["result"]

    def wait_for(self, condition: str) -> None:
        """Wait until the page is loaded and an expression of JavaScript is true in it.

        :raises BrowserError: it did not become true in time; with the text of the page.
        """
        until = time.monotonic() + PATIENCE
        while (left := until - time.monotonic()) > 0:
            try:
                if self.run(_WAIT % (left * 1000, condition)):
                    return
            except BrowserError as error:
                # The page was left meanwhile: the next one is asked.
                if not any(word in str(error) for word in ("context", "navigated")):
                    raise
        text = self.run("location.href + '\\n' + document.body.innerText")
        raise BrowserError(f"not within {PATIENCE} s: {condition}\n\n{text}")

    def wait_for_load(self) -> None:
        """Wait until another page is loaded, which works without scripts as well."""
        loads = self._loads
        while self._loads == loads:
            self._note(self._read())

    def click(self, selector: str) -> None:
        """Click on an element as a mouse does: something that lies over it gets the click."""
        place = self.run(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            " it.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const box = it.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def choose_files(self, selector: str, paths: Sequence[Path]) -> None:
        """Put files into a form."""
        element = self.run(f"document.querySelector({json.dumps(selector)})", by_value=False)
        files = [str(path) for path in paths]
        self.command("DOM.setFileInputFiles", files=files, objectId=element["objectId"])

    def resize(self, width: int, height: int, *, scale: float = 1, dark: bool = False) -> None:
        """Be a screen of this size in CSS pixels, in light or dark."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def set_scripts(self, *, enabled: bool) -> None:
        """Let pages run scripts, or not."""
        self.command("Emulation.setScriptExecutionDisabled", value=not enabled)

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """Save what is seen as PNG.

        :param whole: all of the page, and not only the part that fits the screen.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.command("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path
