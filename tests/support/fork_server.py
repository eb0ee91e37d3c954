"""Starts ``scaled_cli`` over and over, each time in a process of its own, without paying for the imports each time.

    python tests/support/fork_server.py

Orders come as lines of JSON on standard input: ``arguments`` (as for ``scaled_cli``), ``cwd``, ``env``, and the files
``stdin``, ``stdout`` and ``stderr``. For each, a line on standard output tells the exit code.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support import scaled_cli

_PRELOADED = (
    "requests",
    "sqlite3",
    "yaml",
    "flux_lora_cli.adapters.client",
    "flux_lora_cli.assembly.batches",
    "flux_lora_cli.assembly.recent",
    "flux_lora_cli.assembly.submitting",
    "flux_lora_cli.assembly.waiting",
    "flux_lora_cli.cli.batch",
    "flux_lora_cli.cli.batch_report",
    "flux_lora_cli.cli.doctor",
    "flux_lora_cli.cli.main",
    "flux_lora_cli.cli.status",
    "flux_lora_cli.cli.submit",
    "flux_lora_cli.cli.submit_run",
    "flux_lora_cli.cli.wait",
    "flux_lora_cli.domain.presets",
)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for name in _PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(order)
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _become(order: dict[str, Any]) -> NoReturn:
    """Be the command, in the process that was made for it."""
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
            with open(order[name], mode, encoding="utf-8") as file:
                os.dup2(file.fileno(), number)
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - it ends with the process
            setattr(sys, name, stream if isinstance(stream, io.TextIOWrapper) else None)
        sys.argv[:] = ["scaled_cli", *order["arguments"]]
        code = scaled_cli.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        scaled_cli.note_peak()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
