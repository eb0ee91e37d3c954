"""What a person sees: on a terminal of 80 columns, without colours, off a terminal, with -q and -v."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli.cli.console import Console, _wrapped
from flux_lora_cli.cli.settings import live
from tests.conftest import Cli, require_tool
from tests.shell.documented import place_program

Service = Callable[..., dict[str, str]]
_COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-9]|4[0-9]|9[0-7])[0-9;]*m")


def _on_terminal(arguments: list[object], folder: Path, env: dict[str, str], columns: int = 80) -> tuple[int, str]:
    """Run the program with all three streams on a pseudo-terminal; its exit code and everything it wrote."""
    command = [sys.executable, "-m", "flux_lora_cli", *map(str, arguments)]
    pid, handle = pty.fork()
    if pid == 0:
        os.chdir(folder)
        size = {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm-256color"}
        os.execve(sys.executable, command, {**os.environ, **size, **env})
    text = b""
    while True:
        try:
            piece = os.read(handle, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode("utf-8", "replace")


def test_in_tmux_nothing_wraps_and_nothing_is_left(service: Service, preset: Path, tmp_path: Path) -> None:
    tmux = [require_tool("tmux"), "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    program = f"PATH={place_program(tmp_path)}:$PATH"
    batch = f"{program} flux-lora batch three.yaml -o out --concurrency 1"
    env = {**os.environ, **service(service_time=(1.0, 1.2)), "TERM": "xterm-256color"}
    script = f"cd {shlex.quote(str(tmp_path))}; {batch}; echo ended: $?; sleep 60"
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", script], check=True, env=env)
    screens: list[str] = []
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end and not (screens and "ended:" in screens[-1]):
            time.sleep(0.2)
            shown = subprocess.run([*tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True)
            screens.append(shown.stdout)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    facts = [line for screen in screens for line in screen.splitlines() if "in flight" in line]
    assert facts, screens[-1]
    running = next(screen for screen in screens if "in flight" in screen)
    assert re.search(r"^jobs [━╸╺]+ +\d/3 +\d+%$", running, re.M)
    assert all(re.match(r"\d+ in flight · (\d+ saving · )?0 failed · \d images", line) for line in facts)
    last = screens[-1].rstrip().splitlines()
    assert not [line for line in last if "━" in line or "in flight" in line]
    assert [line for line in last if line.startswith("out/a-")]
    assert last[-3].startswith("3 of 3 jobs done, 3 images; charged $0.045")
    assert last[-1] == "ended: 0"


def test_no_color_means_no_colour(service: Service, preset: Path, tmp_path: Path) -> None:
    coloured = _on_terminal(["batch", preset, "-o", "one"], tmp_path, service(service_time=(0.6, 0.8)))
    assert _COLOUR.search(coloured[1])
    for arguments, env in (([], {"NO_COLOR": "1"}), (["--no-color"], {})):
        code, text = _on_terminal(
            ["batch", preset, "-o", "two", *arguments], tmp_path, {**service(service_time=(0.6, 0.8)), **env}
        )
        assert code == 0
        assert "━" in text
        assert not _COLOUR.search(text)
        for path in (tmp_path / "two").iterdir():
            path.unlink()


def test_a_dumb_terminal_gets_plain_lines(service: Service, preset: Path, tmp_path: Path) -> None:
    code, text = _on_terminal(["batch", preset, "-o", "out"], tmp_path, {**service(), "TERM": "dumb"})
    assert code == 0
    assert "\x1b" not in text
    assert "3 of 3 jobs done" in text


@pytest.mark.parametrize(
    ("term", "quiet", "shown"), [("xterm-256color", False, True), ("dumb", False, False), ("xterm", True, False)]
)
def test_the_display_is_for_terminals_that_can_redraw(
    monkeypatch: pytest.MonkeyPatch, term: str, quiet: bool, shown: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(Console, "err_is_terminal", True)
    console = Console()
    console.quiet = quiet
    assert live(console) is shown


@pytest.mark.parametrize("arguments", [[], ["-v"], ["--json"]])
def test_off_a_terminal_there_is_no_control_code(
    cli: Cli, service: Service, preset: Path, arguments: list[str]
) -> None:
    done = cli(
        "batch", preset, "-o", "out", *arguments, env={**service(), "TERM": "xterm-256color", "FORCE_COLOR": "1"}
    )
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.err


def test_quiet_prints_results_and_errors_only(cli: Cli, service: Service, preset: Path) -> None:
    good = cli("batch", preset, "-o", "out", "-q", env=service())
    assert good.err == ""
    assert len(good.lines) == 3
    bad = cli("batch", "absent.yaml", "-q")
    assert bad.code == 3
    assert bad.err.startswith("error: ")


def test_verbose_explains(cli: Cli, service: Service, preset: Path) -> None:
    plain = cli("batch", preset, "-o", "one", env=service())
    told = cli("batch", preset, "-o", "two", "-v", env=service())
    assert len(told.err.splitlines()) > len(plain.err.splitlines())
    assert re.search(r"^one: submitted as \w+, seed 1$", told.err, re.M)


def test_a_question_is_asked_only_where_somebody_can_answer(cli: Cli, service: Service, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"cat {number}" for number in range(101)))
    env = service("price:404", balance=None)
    child, handle = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        arguments = [sys.executable, "-m", "flux_lora_cli", "batch", "many.txt", "-o", "asked"]
        os.execve(sys.executable, arguments, {**os.environ, **env, "TERM": "xterm-256color"})
    text = b""
    while b"[y/N]" not in text:
        text += os.read(handle, 4096)
    os.write(handle, b"n\n")
    while True:
        try:
            piece = os.read(handle, 4096)
        except OSError:
            break
        if not piece:
            break
        text += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    assert b"101 images" in text
    assert b"nothing was submitted" in text


def test_a_first_interrupt_names_the_way_on(
    spawn: Callable[..., subprocess.Popen[str]], service: Service, preset: Path
) -> None:
    process = spawn("batch", preset, "-o", "out", "-v", env=service(service_time=(60.0, 60.0)))
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if "submitted as" in line:
            break
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert time.monotonic() - started < 30  # 2 s on a machine that does nothing else
    assert f"flux-lora batch {preset} -o out" in rest


def test_a_closed_reader_ends_it_quietly(tmp_path: Path, service: Service, preset: Path) -> None:
    env = {**os.environ, **service(), "PATH": f"{place_program(tmp_path)}:{os.environ['PATH']}"}
    script = "set -o pipefail; flux-lora preset show three.yaml --as jsonl | head -n 1; echo ${PIPESTATUS[0]}"
    many = tmp_path / "three.yaml"
    many.write_text(
        "version: 1\njobs:\n" + "".join(f"  - {{id: j{n}, prompt: {'x' * 300}, seed: {n}}}\n" for n in range(900))
    )
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[1] == "141"
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "batch three.yaml -o out",
        "batch three.yaml -o out --json",
        "status",
        "preset show three.yaml",
        "preset list .",
        "schema manifest",
        "gallery out",
        "doctor",
        "batch --help",
        "--version",
    ],
)
def test_a_reader_that_is_gone_ends_any_command_quietly(
    tmp_path: Path, cli: Cli, service: Service, preset: Path, command: str
) -> None:
    env = service()
    assert cli("submit", "a cat", env=env).code == 0
    if command.startswith("gallery"):
        assert cli("batch", preset, "-o", "out", env=env).code == 0
    env = {**os.environ, **env, "PATH": f"{place_program(tmp_path)}:{os.environ['PATH']}"}
    script = f"set -o pipefail; flux-lora {command} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "141\n"
    for word in ("Traceback", "Broken", "error", "Exception"):
        assert word not in done.stderr
    if command.startswith("batch three"):
        assert cli("batch", preset, "-o", "out", env=env).code == 0
        assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_an_interrupt_of_a_command_that_only_looks_is_an_event_too(
    spawn: Callable[..., subprocess.Popen[str]], cli: Cli, service: Service
) -> None:
    env = service(service_time=(60.0, 60.0))
    task = cli("submit", "a cat", env=env).out.strip()
    process = spawn("status", "--watch", task, "--json", env=env)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    lines += process.stdout.readlines()
    assert process.wait(60) == 130
    assert [json.loads(line)["event"] for line in lines] == ["status", "error", "summary"]
    assert json.loads(lines[1])["code"] == "interrupted"


@pytest.mark.parametrize("form", ["named", "piped", "recent"])
def test_an_interrupted_watch_names_the_command_that_goes_on(
    spawn: Callable[..., subprocess.Popen[str]], cli: Cli, service: Service, form: str
) -> None:
    env = service(service_time=(60.0, 60.0))
    tasks = [cli("submit", f"a cat {number}", env=env).out.strip() for number in (1, 2)]
    words = {"named": tasks, "piped": [tasks[0], "-"], "recent": []}[form]
    process = spawn("status", *words, "--watch", env=env, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{tasks[1]}\n")
    process.stdin.close()
    for _ in tasks:
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr is not None
    again = " ".join([*(tasks if words else []), "--watch"])
    assert process.stderr.read() == f"error: interrupted\n  To go on: flux-lora status {again}\n"
    process.stdin = None  # it is closed, and communicate() would flush it


# ---- commands of CI services -------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "::error::x",
        "  ::stop-commands::x",
        "a\n::add-mask::x",
        "see ##[error]x",
        "##vso[task.complete]",
        "##teamcity[x]",
    ],
)
def test_no_message_is_a_command_of_a_ci_service(capsys: pytest.CaptureFixture[str], text: str) -> None:
    Console(err=sys.stderr).info(text)
    written = capsys.readouterr().err
    assert not re.search(r"^\s*::", written, re.M)
    assert not re.search(r"##(\[|vso\[|teamcity\[)", written)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("word " * 30, 2),
        ("x" * 200, 1),
        ("short", 1),
        ("To go on: flux-lora batch " + "long/name.yaml " * 10, 1),
        ("  indented " + "word " * 20, 2),
    ],
)
def test_messages_break_at_words_and_commands_do_not(text: str, lines: int) -> None:
    wrapped = _wrapped(text.rstrip(), 80).split("\n")
    assert len(wrapped) == lines
    assert " ".join(" ".join(wrapped).split()) == " ".join(text.split())
    if lines > 1:
        assert max(map(len, wrapped)) <= 80


def test_annotations_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    Console(err=sys.stderr).annotate("::error::x")
    assert capsys.readouterr().err == "::error::x\n"
