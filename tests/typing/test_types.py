"""The types that users see hold."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKED = [
    path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem != "test_types"
]


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.stem)
def test_a_checker_agrees(path, tmp_path):
    """Each line says which type it expects, or which error."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            f"--cache-dir={tmp_path}",
            "--warn-unused-ignores",
            str(path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
