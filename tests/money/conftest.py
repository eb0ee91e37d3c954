"""Real commands in processes of their own, against a server that counts what it charges."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions
from tests.conftest import Finished
from tests.event_lines import check_output
from tests.support import truth

FAST = Path(__file__).parents[1] / "support" / "fast_clock.py"


def unhurried(seconds: float) -> float:
    """A limit in seconds for a machine of its own; more where others keep the processors busy."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Money:
    """A preset, a folder, and the service that charges.

    Attributes:
        jobs: how many distinct prompts the preset has.
    """

    def __init__(self, place: Path, jobs: int, **options: Any) -> None:
        given = {"service_time": (0.02, 0.1), "pictures": "plain", "picture_bytes": 2000, **options}
        self.place, self.jobs = place, jobs
        self.folder = place / "out"
        self.preset = place / "prompts.txt"
        self.write(range(jobs))
        self.sandbox = Sandbox(SandboxOptions(**given))
        self.sandbox.start()
        self.running: list[subprocess.Popen[str]] = []

    def write(self, numbers: Any) -> None:
        self.preset.write_text("".join(f"a cat, number {number}\n" for number in numbers))

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.sandbox.stop()

    # ---- commands ----

    def command(self, *arguments: object, folder: Path | None = None) -> list[str]:
        return [
            *("batch", str(self.preset), "-o", str(folder or self.folder), "--base-url", self.sandbox.base_url),
            *map(str, arguments),
        ]

    def start(
        self, *arguments: object, speed: float = 120, timeouts: float = 0, folder: Path | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        env = {**os.environ, "WAVESPEED_API_KEY": "k", "FAST_CLOCK": str(speed)}
        if timeouts:
            env["FAST_TIMEOUTS"] = str(timeouts)
        process = subprocess.Popen(
            [*options.pop("before", ()), sys.executable, str(FAST), *self.command(*arguments, folder=folder)],
            stdin=subprocess.DEVNULL,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            encoding="utf-8",
            cwd=self.place,
            env=env,
            **options,
        )
        self.running.append(process)
        return process

    def run(self, *arguments: object, limit: float = 90, **options: Any) -> Finished:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=limit)
        assert "Traceback" not in err, err
        check_output(arguments, out, process.returncode)
        return Finished(process.returncode, out, err)

    # ---- what came of it ----

    @property
    def charged(self) -> int:
        """Tasks that the service charges."""
        return int(self.sandbox.stats()["charged_tasks"])

    @property
    def submits(self) -> int:
        """POSTs that the service received."""
        return int(self.sandbox.stats()["submits_received"])

    @property
    def requests(self) -> int:
        return int(self.sandbox.stats()["requests"])

    def until(self, condition: Callable[[], bool], limit: float = 30) -> None:
        """Wait until something is seen at the service or on disk."""
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, "it never came"
            time.sleep(0.002)

    def all_done(self) -> None:
        """Each job was charged once and its image is there; once more costs not even a request."""
        assert self.charged == self.jobs
        assert len(truth.images(self.folder)) == self.jobs
        before = self.requests
        done = self.run()
        assert (done.code, self.requests) == (0, before), done.err
        assert len(done.lines) == self.jobs
        assert truth.leftovers(self.folder) == []

    def finish(self) -> None:
        """After kills: run again, send again what surely never arrived, and look at the whole."""
        done = self.run()
        assert done.code in (0, 13), done.err
        assert self.charged <= self.jobs
        if done.code == 13:
            unknown = [entry["id"] for entry in truth.manifest(self.folder)["jobs"] if entry["state"] == "unknown"]
            assert unknown
            assert all(name in done.err for name in unknown)
            assert self.charged == self.jobs - len(unknown)  # the list answers: what it does not have, was not accepted
            done = self.run("--on-unknown", "resubmit")
            assert "submitted once more" in done.err
        assert done.code == 0, done.err
        # A killed run's temporary files are swept after an hour.
        for path in self.folder.glob(".flux-lora-*.part"):
            path.unlink()
        self.all_done()


@pytest.fixture
def money(tmp_path: Path) -> Iterator[Callable[..., Money]]:
    """A maker of such settings."""
    made: list[Money] = []

    def build(jobs: int, **options: Any) -> Money:
        place = tmp_path / f"money-{len(made)}"
        place.mkdir()
        made.append(Money(place, jobs, **options))
        return made[-1]

    yield build
    for one in made:
        one.close()
