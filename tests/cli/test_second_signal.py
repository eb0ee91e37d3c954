"""A further Ctrl-C or SIGTERM while the first one's end is nearly there: the same exit code."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("pause", [0.0, 0.01, 0.03])
def test_the_exit_code_is_that_of_the_interrupt(
    spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: int, code: int, pause: float
) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\njobs:\n  - prompt: a cat\n    size: 512*512\n")
    process = spawn("batch", "p.yaml", "--sandbox", "-v")
    assert process.stderr is not None
    while "submitted as" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    while "To go on" not in process.stderr.readline():
        pass
    time.sleep(pause)
    process.send_signal(number)
    process.wait(timeout=20)
    assert process.returncode == code
