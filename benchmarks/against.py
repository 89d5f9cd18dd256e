"""Two revisions of the package, measured in turns: by the same code where it fits both.

Each round of the one is followed by a round of the other, so that whatever else the machine
does in that minute falls upon both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from typing import Final

ROOT: Final = Path(__file__).parents[1]

#: Of a row its name and its unit.
Name = tuple[str, str]


def compare(revision: str, arguments: Sequence[str], rounds: int) -> str:
    """The figures of a revision, those of the files as they are, and how these relate.

    :param revision: as Git names it.
    :param arguments: for each round.
    """
    found: tuple[dict[Name, list[float]], ...] = ({}, {})
    with _checked_out(revision) as before:
        sides = (before, ROOT)
        for number in range(rounds):
            # Each of them is the first one in turn.
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                for row in _measure(sides[side], arguments):
                    name = (row["name"], row["unit"])
                    found[side].setdefault(name, []).append(row["median"])
    return _as_table(revision, *found)


@contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tree"
        _git("worktree", "add", "--detach", "--quiet", str(place), revision)
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


def _git(*words: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *words], check=True)


def _measure(tree: Path, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """One round, with the package of a tree."""
    with tempfile.TemporaryDirectory() as folder:
        measures = Path(folder) / "benchmarks"
        measures.symlink_to(ROOT / "benchmarks")
        (Path(folder) / "flask_taskq").symlink_to(tree / "flask_taskq")
        if _run(folder, "-c", "import benchmarks.measures").returncode:
            # The measures use modules of the package that have another name in that tree.
            measures.unlink()
            measures.symlink_to(tree / "benchmarks")
        done = _run(folder, "-m", "benchmarks", *arguments, "--json", "--rounds=1")
        done.check_returncode()
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


def _run(folder: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": folder},
        stdout=subprocess.PIPE,
        check=False,
    )


def _as_table(
    revision: str, before: dict[Name, list[float]], now: dict[Name, list[float]]
) -> str:
    lines = [f"{'':44} {'unit':>7} {revision[:12]:>12} {'now':>12} {'ratio':>6}"]
    for name, unit in now:
        one, other = before.get((name, unit), []), now[(name, unit)]
        shown = [f"{statistics.median(some):,.2f}" if some else "-" for some in (one, other)]
        # Of each round by itself: both have met the same minute.
        ratios = [b / a for a, b in zip(one, other, strict=False) if a]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        lines.append(f"{name:44} {unit:>7} {shown[0]:>12} {shown[1]:>12} {ratio:>6}")
    return "\n".join(lines)
