"""What every test stands on: no network but loopback, no real home folder, the command line in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support.event_lines import check_output
from tests.support.forks import KEY, Command, Finished
from tests.support.stage import Stage
from tests.support.trap import sitecustomize  # guards this process, too

# How long examples take says how busy the machine is, and nothing of the program; what has to be quick is timed apart.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

if TYPE_CHECKING:
    from flux_lora_cli.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
_SETTINGS = ("WAVESPEED_", "FLUX_LORA_", "XDG_", "GITHUB_", "CI_", "SLURM_", "AWS_BATCH_", "JOB_COMPLETION")
_ALSO = ("CI", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "GITLAB_CI", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def pytest_configure() -> None:
    """Give ignored signals their handlers back.

    A script's ``… &`` ignores SIGINT, nohup SIGHUP, and so would every command that a test starts, which rightly
    leaves ignored what its parent ignores. Runs in the workers of xdist, too.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, _stay),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def _stay(*_: object) -> None:
    """Do nothing, so that the session outlives its terminal as nohup promised; what it starts has the default."""


def require_tool(name: str) -> str:
    """The path of a system tool; skips the test without it, or fails where the run demands all tools."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        if os.environ.get("FLUX_LORA_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


def require_module(name: str) -> Any:
    """An optional Python package; as ``require_tool``."""
    if os.environ.get("FLUX_LORA_REQUIRE_TOOLS") == "1":
        return import_module(name)
    return pytest.importorskip(name)


@pytest.fixture(autouse=True)
def real_devices() -> Iterator[None]:
    """A test that writes to a device which is its own, or a program that replaces one, must not break the machine."""
    yield
    for name in ("null", "zero", "full"):
        path = Path("/dev", name)
        assert not path.exists() or path.is_char_device(), f"this test replaced {path}: mknod it again, as root"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and none of the caller's settings."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        ours = name.startswith(_SETTINGS) or name in _ALSO or name.lower().endswith("_proxy")
        if ours and name != "FLUX_LORA_REQUIRE_TOOLS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLUX_LORA_STATE_DIR", str(home / "state"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(Path(sitecustomize.__file__).parent))))
    return home


Cli = Callable[..., Finished]
Spawn = Callable[..., "subprocess.Popen[str]"]
MakeStage = Callable[..., Stage]
PROGRAM = (sys.executable, "-m", "flux_lora_cli")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run ``flux-lora`` in the test's folder, in a process of its own: a fork, unless a ``program`` is named."""

    def run(*arguments: object, stdin: str = "", program: tuple[str, ...] | None = None) -> Finished:
        words = [str(argument) for argument in arguments]
        if program is None and "COVERAGE_PROCESS_CONFIG" not in os.environ:
            command = Command(words, cwd=tmp_path, env=os.environ, stdin=stdin.encode())
            (out, err), code = command.communicate(), command.wait()
        else:
            line, how = [*(program or PROGRAM), *words], {"input": stdin, "cwd": tmp_path, "timeout": 60}
            done = subprocess.run(line, capture_output=True, encoding="utf-8", errors="surrogateescape", **how)
            out, err, code = done.stdout, done.stderr, done.returncode
            check_output(words, out, code)
        assert "Traceback" not in err, err
        assert "internal error" not in err, err
        return Finished(code, out, err)

    return run


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start ``flux-lora`` and go on; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {**streams, "encoding": "utf-8", "cwd": tmp_path, **options}
        running.append(subprocess.Popen([*PROGRAM, *map(str, arguments)], **options))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox in the test's process, quick; commands that the test runs find it and a key in their environment."""
    from flux_lora_cli.sandbox import Sandbox

    with Sandbox(service_time=(0.05, 0.15)) as running:
        monkeypatch.setenv("WAVESPEED_BASE_URL", running.base_url)
        monkeypatch.setenv("WAVESPEED_API_KEY", KEY)
        yield running


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[MakeStage]:
    """A maker of stages: ``stages(jobs, scale=…, …options of the fake service)``."""
    made: list[Stage] = []

    def build(jobs: int, scale: float = 60.0, **options: Any) -> Stage:
        place = tmp_path / f"stage-{len(made)}"
        place.mkdir()
        made.append(Stage(place, scale, **{"service_time": 0.05, "picture_bytes": 2000, **options}))
        made[-1].jobs(jobs)
        return made[-1]

    yield build
    for stage in made:
        stage.close()


@pytest.fixture
def stage(stages: MakeStage) -> Stage:
    """One job, ``cat1``, and a service that answers at once; waits are 60 times shorter."""
    return stages(1, service_time=0.0)


@dataclass
class Certificates:
    ca: Path
    context: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate for localhost and service.example, and the authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost,DNS:service.example\n")

    def openssl(*arguments: str) -> None:
        subprocess.run([require_tool("openssl"), *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-days", "2", *authority)
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *sign)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return Certificates(folder / "ca.pem", context)
