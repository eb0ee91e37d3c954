"""``flux-lora wait``: from task IDs to images on disk."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Annotated

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.inputs import TaskIds, check_ids
from flux_lora_cli.commands.options import WaitOptions, argument, command
from flux_lora_cli.commands.running import check, run_settings, running, tell_end
from flux_lora_cli.commands.signals import this_command
from flux_lora_cli.errors import ExitCode, FluxLoraError, UsageError

EXAMPLES = """
flux-lora submit "a cat" | flux-lora wait -
flux-lora wait 1f0c9a3e -o pictures --filename "{task}-{index}.{ext}"
"""


@command
def wait(
    ids: Annotated[list[str], argument("ID", "Task IDs, or - to read them.")], options: WaitOptions, console: Console
) -> int:
    """Wait for tasks, save their images, print the file paths.

    With - the first task is waited for before the input ends. Tasks are added to the manifest of the folder.
    """
    check(options, console)
    streamed = TaskIds() if "-" in ids else None
    if streamed is not None and len(ids) > 1:
        raise UsageError("- reads the IDs from standard input; others cannot be added to it")
    wanted: Iterable[str] = check_ids(ids) if streamed is None else streamed.wait_for_first()
    hint = "" if streamed else f"To resume: {this_command()}"
    try:
        with running(options, console, hint=hint, what="task") as run:
            from flux_lora_cli.engine.tasks import wait_for  # not before the key is there

            folder = options.output or options.default_folder()
            result = wait_for(
                wanted, run.client, run.service, folder, run_settings(options, console),
                api_version=options.api_version, reach=options.words, observer=run.observer, stop=run.stop,
            )  # fmt: skip
    except FluxLoraError as error:  # before the run: whoever submitted the tasks may have shown them to nobody else
        if streamed is not None:
            streamed.read_on()
            ids = streamed.seen
        error.tasks = tuple((None, task) for task in ids)
        collect = shlex.join(["flux-lora", "wait", *options.words, *ids])
        error.hint = f"{error.hint} Do not submit them again. To collect them: {collect}".strip()
        raise
    code = tell_end(result, console)
    if streamed is not None and code < ExitCode.INTERRUPTED:
        check_ids(streamed.wrong)
    return code
