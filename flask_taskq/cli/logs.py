"""Where the log of a worker goes."""

from __future__ import annotations

import logging

from ..logs import JobFilter
from ..logs import JSONFormatter
from ..logs import TextFormatter


def configure_logging(level: str, log_format: str) -> None:
    """Log to standard error, unless the root logger has been told otherwise.

    :param log_format: ``text`` or ``json``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(JobFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
