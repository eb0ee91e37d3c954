"""One folder, one service, one user: commands against a fake service, and what they leave."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from tests.support import fast, truth, wrong
from tests.support.fake import Fake
from tests.support.forks import KEY, Command, Finished

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bin")
#: What may steer a terminal: all control characters but line breaks and tabs, and the marks that reorder text.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Stage:
    """A folder with presets and an output folder ``out``, and the service that charges.

    Args:
        scale: how much faster than real the program's waits are.
        fake: another stage's service, which is then not closed.
        options: of a service of its own.
    """

    def __init__(self, folder: Path, scale: float = 20.0, fake: Fake | None = None, **options: Any) -> None:
        self.folder, self.scale = folder, scale
        self.fake, self._own = fake or Fake(**options), fake is None
        self.out = folder / "out"
        self.state = folder / "state"
        self.running: list[Any] = []

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()
        if self._own:
            self.fake.close()

    # ---- what is there before ----

    def jobs(self, count: int | Sequence[int], **params: Any) -> None:
        """Write ``jobs.jsonl``: so many jobs ``cat1`` …, or those of the numbers."""
        numbers = range(1, count + 1) if isinstance(count, int) else count
        lines = [{"id": f"cat{n}", "prompt": f"a cat {n}", "size": "512*512", **params} for n in numbers]
        (self.folder / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def task(self, **params: Any) -> str:
        """A task of somebody else's making."""
        return self.fake.make("wavespeed-ai/flux-dev-lora", {"prompt": "a dog", **params}, charge=False).id

    def wrong(self, text: str) -> None:
        wrong.add(self.fake, text)

    # ---- commands ----

    def start(
        self,
        command: str | Sequence[str],
        *,
        charged: int = 0,
        scale: float | None = None,
        before: Sequence[str] = (),
        base_url: str | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: str | bytes = b"",
    ) -> Any:
        """Start one command line, and go on once so many tasks are charged.

        ``before``: a program that starts it, as a process of its own and not as a fork.
        """
        ours = {"WAVESPEED_API_KEY": KEY, "WAVESPEED_BASE_URL": base_url or self.fake.base_url}
        given = {**os.environ, **ours, "FLUX_LORA_STATE_DIR": str(self.state), **(env or {})}
        how: Any = {"cwd": self.folder, "env": {name: value for name, value in given.items() if value is not None}}
        words = shlex.split(command) if isinstance(command, str) else list(command)
        scale = self.scale if scale is None else scale
        if before:
            how |= dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
            line = [*before, sys.executable, fast.__file__, str(scale), *words]
            self.running.append(subprocess.Popen(line, stdin=subprocess.DEVNULL, errors="surrogateescape", **how))
        else:
            data = stdin if isinstance(stdin, bytes) else stdin.encode()
            self.running.append(Command(words, stdin=data, scale=scale, **how))
        self.until(lambda: self.fake.charged >= charged or self.running[-1].poll() is not None)
        return self.running[-1]

    def end(
        self, process: Any, *signals: int, timeout: float = 60.0, code: int | None = None, charges: int | None = None
    ) -> Finished:
        """Send these signals, if any; wait for the end, and look at what was printed.

        ``code``: the exit code that it has to have; ``charges``: tasks that the service has charged by now.
        """
        began = time.monotonic()
        for number in signals:
            process.send_signal(number)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{process.args} hangs: {process.communicate()}") from None
        self.running.remove(process)
        ended = Finished(process.returncode, out, err, time.monotonic() - began)
        check_text(ended, annotations="github" in process.args)
        self.check_secret(ended)
        assert code in (None, ended.code), ended.err + ended.out
        assert charges in (None, self.fake.charged), ended.err
        return ended

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 60.0,
        code: int | None = None,
        charges: int | None = None,
        most_megabytes: float = 1e9,
        **how: Any,
    ) -> Finished:
        """Run one command line to its end, and look at what it printed."""
        process = self.start(command, **how)
        ended = self.end(process, timeout=timeout, code=code, charges=charges)
        assert getattr(process, "megabytes", 0.0) < most_megabytes
        return ended

    # ---- what came of it ----

    def until(self, condition: Any) -> None:
        """Wait until something is seen at the service or on disk."""
        end = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < end, "it never came"
            time.sleep(0.002)

    def states(self) -> list[str]:
        return [job["state"] for job in truth.manifest(self.out)["jobs"]]

    def unknown(self) -> list[str]:
        """IDs of jobs of unknown outcome."""
        return [job["id"] for job in truth.manifest(self.out)["jobs"] if job["state"] == "unknown"]

    def pictures(self) -> list[Path]:
        """Files under a final name that claim to be images; input images left out."""
        found = sorted(self.out.rglob("*")) if self.out.is_dir() else []
        return [p for p in found if p.suffix in _PICTURES and not p.name.startswith(".") and p.parent.name != "inputs"]

    def check_folder(self) -> None:
        """What the folder says is true, every image is whole, and nothing half-done is left."""
        if not (self.out / "manifest.json").exists():
            assert not self.pictures()
            return
        saved = set(truth.saved(self.out))
        assert {path.relative_to(self.out).as_posix() for path in self.pictures()} == saved
        assert truth.leftovers(self.out) == []

    def check_secret(self, ended: Finished) -> None:
        """The key is nowhere, in no form."""
        texts = {"standard output": ended.out, "standard error": ended.err}
        found = {name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()}
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # another run's temporary file
                if path.is_file() and path.stat().st_size < 1 << 26:
                    found[str(path)] = path.read_bytes()
        for place, text in found.items():
            assert not any(form in text for form in key_forms()), f"the key is in {place}"
            assert KEY.lower().encode() not in re.sub(rb"\s", b"", text).lower(), f"the key is in {place}"

    def all_done(self, jobs: int) -> None:
        """Each job was charged once and its image is there; once more costs not even a request."""
        assert max(self.fake.charged_prompts().values()) == 1
        assert self.fake.charged == jobs
        assert len(truth.saved(self.out)) == jobs
        before = self.fake.count()
        done = self.run("batch jobs.jsonl -o out")
        assert (done.code, self.fake.count()) == (0, before), done.err
        assert len(done.lines) == jobs
        assert [name for name in truth.leftovers(self.out) if not name.endswith(".part")] == []

    def finish(self, jobs: int) -> None:
        """After kills: run again, send again what surely never arrived, and look at the whole."""
        self.fake.mend()
        done = self.run("batch jobs.jsonl -o out", scale=200)
        assert done.code in (0, 13), done.err
        assert self.fake.charged <= jobs
        if done.code == 13:
            unknown = self.unknown()
            assert unknown
            assert all(name in done.err for name in unknown)
            assert self.fake.charged == jobs - len(unknown)  # the list answers: what it does not have, was not accepted
            done = self.run("batch jobs.jsonl -o out --on-unknown resubmit", scale=200)
        assert done.code == 0, done.err
        self.all_done(jobs)


def key_forms() -> list[bytes]:
    """The key as it may turn up: raw, URL-encoded, JSON-escaped, and in base64 wherever it stands there."""
    forms = {KEY, quote(KEY), quote(KEY, safe=""), quote(KEY, safe="").lower(), quote_plus(KEY)}
    forms |= {"".join(f"%{ord(c):02X}" for c in KEY), ";".join(f"&#x{ord(c):x}" for c in KEY), KEY.encode().hex()}
    forms |= {KEY.replace("/", "\\/"), "".join(f"\\u{ord(c):04x}" for c in KEY)}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + KEY.encode()).decode()
        inner = text[4 if shift else 0 : -4]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return [form.encode() for form in forms]


def check_text(ended: Finished, annotations: bool = False) -> None:
    """Nothing on the streams steers a terminal or a CI service, or is the inside of the program.

    ``annotations``: the program was asked for GitHub's, so that lines may begin as these do.
    """
    for text in (ended.out, ended.err):
        assert "Traceback" not in text, text
        assert "internal error" not in text, text
        assert not _STEERING.search(text), repr(text)
        for line in text.splitlines():
            assert annotations or not line.lstrip().startswith("::"), line
            assert "##[" not in line, line
            assert "##vso[" not in line, line
