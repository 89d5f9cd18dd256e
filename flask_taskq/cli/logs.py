"""Where the log of a worker goes."""

from __future__ import annotations

import logging

_FORMAT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Log to standard error, unless the root logger has been told otherwise."""
    logging.basicConfig(level=level.upper(), format=_FORMAT)
