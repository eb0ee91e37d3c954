"""The README's pictures, made anew: ``python tests/make_screenshots.py`` writes ``.github/pictures/*.png``.

A run of the shipped presets in the sandbox, under tmux, gives the live display and the folder; the
gallery of that folder gives the rest. Needs tmux, chromium, and Playwright from PyPI.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PRESETS = ("portraits", "posters", "scale-comparison")
COLUMNS, LINES = 96, 16
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip

#: The sixteen colours of a quiet terminal, on #16181d.
PALETTE = ["#3b4048", "#e0707a", "#8fc07a", "#d9b15f", "#6ea6e8", "#b98be0", "#5fb8c0", "#c9ced6"]
BRIGHT = ["#6b7280", "#f08a93", "#a7d592", "#eccb7e", "#8fbcf5", "#cfa6f0", "#7fd0d6", "#f2f4f7"]
_SGR = re.compile(r"\x1b\[([\d;]*)m")


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / ".github" / "pictures")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "spring-campaign"
        screens = watch_batch(folder, Path(scratch))
        command("gallery", str(folder))
        photograph(folder, best(screens), out)
    for path in sorted(out.glob("*.png")):
        print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


def command(*arguments: str) -> None:
    """Run ``flux-lora`` as the checkout has it."""
    subprocess.run([sys.executable, "-m", "flux_lora_cli", *arguments], check=True, cwd=ROOT)


def watch_batch(folder: Path, scratch: Path) -> list[str]:
    """Run the batch in a terminal; what its screen showed, four times a second."""
    tmux = [shutil.which("tmux") or sys.exit("tmux is not installed"), "-S", str(scratch / "tmux")]
    shown = "flux-lora batch presets/*.yaml --sandbox -o spring-campaign"
    files = [str(ROOT / "presets" / f"{name}.yaml") for name in PRESETS]
    program = [sys.executable, "-m", "flux_lora_cli"]
    batch = [*program, "batch", *files, "--sandbox", "-o", folder.name, "--concurrency", "4"]
    script = f"cd {scratch}; printf '$ {shown}\\n'; {shlex.join(batch)} > paths; touch done; sleep 30"
    environment = {
        **os.environ,
        "FLUX_LORA_STATE_DIR": str(scratch / "state"),
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
    }
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    subprocess.run(
        [*tmux, "-f", "/dev/null", "new-session", "-d", *size, "sh", "-c", script], check=True, env=environment
    )
    screens = []
    deadline = time.monotonic() + 120
    while not (scratch / "done").exists() and time.monotonic() < deadline:
        time.sleep(0.25)
        seen = subprocess.run([*tmux, "capture-pane", "-e", "-p"], capture_output=True, text=True, check=True).stdout
        screens.append(seen.rstrip("\n"))
    subprocess.run([*tmux, "kill-server"], check=False)
    return screens


def best(screens: list[str]) -> str:
    """The screen of a run that is a good half done: the one whose percentage is nearest to 60."""

    def distance(screen: str) -> float:
        found = re.findall(r"(\d+)\s*(?:/|of)\s*(\d+)", _SGR.sub("", screen))
        shares = [100 * int(done) / int(all_) for done, all_ in found if int(all_) > 1]
        return min((abs(share - 60) for share in shares), default=1000)

    return min(screens, key=distance)


def photograph(folder: Path, terminal: str, out: Path) -> None:
    """Take all pictures in one browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 860, "height": 400}, device_scale_factor=2)
        page.set_content(terminal_page(terminal))
        page.locator("#terminal").screenshot(path=out / "live.png", omit_background=True)
        page.close()
        for name, scheme, width, height in (("wall", "light", 1280, 800), ("grid", "dark", 1280, 800)):
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto((folder / "index.html").as_uri())
            if name == "grid":
                show_grid(page)
            page.wait_for_timeout(1500)
            page.screenshot(path=out / f"gallery-{name}.png")
            page.close()
        browser.close()


def show_grid(page: Any) -> None:
    """The matrix of scale-comparison, as the page itself arranges it."""
    page.select_option("[data-filter=preset]", label="scale-comparison")
    page.click("#to-grid")


def terminal_page(screen: str) -> str:
    """A screen with its colours, as HTML in a plain terminal window."""
    body = "\n".join(coloured(line) for line in screen.splitlines())
    return f"""<!DOCTYPE html><meta charset="utf-8"><style>
      body {{ margin: 0; background: transparent; }}
      #terminal {{ width: max-content; border-radius: 10px; background: #16181d; color: #c9ced6; padding: 20px 24px; }}
      pre {{ margin: 0; font: 13.5px/1.5 "DejaVu Sans Mono", monospace; }}
    </style><div id="terminal"><pre>{body}</pre></div>"""


def coloured(line: str) -> str:
    """One line of ``tmux capture-pane -e`` as spans."""
    pieces = _SGR.split(line)
    style: dict[str, str] = {}
    out = [html.escape(pieces[0])]
    for codes, text in zip(pieces[1::2], pieces[2::2], strict=True):
        apply(style, [int(code or 0) for code in codes.split(";")])
        css = ";".join(f"{key}:{value}" for key, value in style.items())
        out.append(f'<span style="{css}">{html.escape(text)}</span>')
    return "".join(out)


def apply(style: dict[str, str], codes: list[int]) -> None:
    """Follow the select-graphic-rendition codes that rich writes."""
    while codes:
        code = codes.pop(0)
        if code == 0:
            style.clear()
        elif code == 1:
            style["font-weight"] = "600"
        elif code == 2:
            style["opacity"] = ".65"
        elif code == 39:
            style.pop("color", None)
        elif 30 <= code <= 37:
            style["color"] = PALETTE[code - 30]
        elif 90 <= code <= 97:
            style["color"] = BRIGHT[code - 90]
        elif code in (38, 48) and codes[:1] == [5]:
            style["color" if code == 38 else "background"] = colour_256(codes[1])
            del codes[:2]
        elif code in (38, 48) and codes[:1] == [2]:
            style["color" if code == 38 else "background"] = "#{:02x}{:02x}{:02x}".format(*tuple(codes[1:4]))
            del codes[:4]


def colour_256(number: int) -> str:
    """A colour of the 256: the sixteen, the 6 × 6 × 6 cube, the greys."""
    if number < 16:
        return (PALETTE + BRIGHT)[number]
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    cube = number - 16
    levels = (0, 95, 135, 175, 215, 255)
    return "#" + "".join(f"{levels[cube // step % 6]:02x}" for step in (36, 6, 1))


if __name__ == "__main__":
    main()
