"""Fetching a page for a user, and only from this app.

A server that fetches any address it is given is a way into the network behind it.
"""

from __future__ import annotations

from http.client import HTTPConnection
from http.client import HTTPException
from http.client import HTTPSConnection
from urllib.parse import quote
from urllib.parse import urlsplit

#: How much of a page is read, in bytes, and how long to wait for it, in seconds.
MAX_SIZE = 1_000_000
TIMEOUT = 5


def find_path(url: str, own_url: str) -> str:
    """The path and query of one of the app's own pages.

    :param own_url: where the app is reached.
    :raises ValueError: the page is another server's; the text is for the user.
    """
    # Not the host that a request names, which the client chooses. And all of
    # it, with the port: behind another one may be a database.
    own, page = urlsplit(own_url), urlsplit(url)
    if (page.scheme, page.netloc) != (own.scheme, own.netloc):
        raise ValueError(f"Only pages of this app can be counted, those at {own_url}/")
    path = quote(page.path, safe="/%") or "/"
    return f"{path}?{quote(page.query, safe='=&%+')}" if page.query else path


def fetch(url: str, own_url: str) -> str:
    """The page as text.

    :raises ValueError: it is not the app's own, or there is no such page.
    :raises OSError: it cannot be had right now.
    """
    path = find_path(url, own_url)
    own = urlsplit(own_url)
    # This follows no redirect and asks no proxy: it goes to this one address.
    connect = HTTPSConnection if own.scheme == "https" else HTTPConnection
    connection = connect(own.netloc, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"Accept": "text/html"})
        response = connection.getresponse()
        content = response.read(MAX_SIZE)
    except HTTPException as error:
        raise OSError(f"The answer was no HTTP: {error}") from error
    finally:
        connection.close()
    if response.status >= 500:
        raise OSError(f"The server answered {response.status} {response.reason}.")
    if response.status != 200:
        raise ValueError(f"The server answered {response.status} {response.reason}.")
    return content.decode(errors="replace")
