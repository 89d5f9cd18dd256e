"""What a job costs on an engine: sending, draining, latency, and doing nothing.

Beside each figure stands that of the bare baseline, where there is one: the same statements
or commands through the driver, without us, in the same minute. Absolute figures of two
machines, or of two hours, do not compare; ratios within one run do.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from flask_taskq.engines import ENGINES

from .against import compare
from .machine import describe
from .measures import MEASURES
from .rounds import Sizes
from .storages import STORAGES
from .table import as_json
from .table import as_table
from .table import Row


def main(arguments: Sequence[str] | None = None) -> None:
    """:param arguments: those of the command line by default."""
    sizes = Sizes()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--url", help="of the engine; by default an SQLite file of its own")
    add("--only", choices=MEASURES, action="append", help="one measure; may be repeated")
    add("--json", action="store_true", help="all values, for programs")
    add("--rounds", type=_count, default=sizes.rounds, help="default: %(default)s")
    add("--jobs", type=_count, default=sizes.jobs, help="to drain (%(default)s)")
    add("--sent", type=_count, default=sizes.sent, help="one by one (%(default)s)")
    add("--at-once", type=_count, default=sizes.at_once, help="senders (%(default)s)")
    add("--samples", type=_count, default=sizes.samples, help="of the latency (%(default)s)")
    add("--waiting", type=_count, default=sizes.waiting, help="a backlog (%(default)s)")
    add("--delayed", type=_count, default=sizes.delayed, help="due later (%(default)s)")
    add("--seconds", type=float, default=sizes.seconds, help="to be idle (%(default)s)")
    add("--against", metavar="REV", help="measure this revision, too, in turns")
    given = vars(parser.parse_args(arguments))
    revision = given.pop("against")
    only, json = given.pop("only") or MEASURES, given.pop("json")
    if wrong := _check(given["url"]):
        parser.error(f"--url: {wrong}")
    # A worker that was started is stopped then, and what was stored removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if revision is not None:
        words = [f"--only={name}" for name in MEASURES if name in only]
        words += [f"--{name.replace('_', '-')}={given[name]}" for name in given if given[name]]
        print(compare(revision, words, given["rounds"]))
        return
    rows: list[Row] = []
    machine = {"engine": _scheme(given["url"]), **describe()}
    for name, measure in MEASURES.items():
        if name in only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += measure(Sizes(**given))
    print(as_json(machine, rows) if json else as_table(rows))


def _check(url: str | None) -> str | None:
    """What is wrong with the URL; None if it can be measured."""
    known = [scheme for scheme in STORAGES if scheme in ENGINES]
    if _scheme(url) not in known:
        return f"{', '.join(known)} can be measured"
    return None if url is None else STORAGES[_scheme(url)].check(url)


def _scheme(url: str | None) -> str:
    return "sqlite" if url is None else url.partition("://")[0]


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    main()
