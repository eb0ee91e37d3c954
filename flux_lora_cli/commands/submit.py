"""``flux-lora submit``: one task ID per line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from flux_lora_cli.commands.completion import offer_jobs, offer_stacks
from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.inputs import load_options, read_lines, request, tell_notes
from flux_lora_cli.commands.options import RunOptions, advanced, advanced_flag, argument, command, flag, option
from flux_lora_cli.commands.running import check, confirmed, run_settings, running, tell_end
from flux_lora_cli.commands.values import unicode
from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.folder.records import JobRecord
    from flux_lora_cli.presets.job import Job
    from flux_lora_cli.service.models import Models

EXAMPLES = """
flux-lora submit --sandbox --wait "a cat"
flux-lora submit "a cat" | flux-lora wait -
flux-lora submit -p "a cat" -p "a dog" --steps 12 --lora owner/name:0.8
flux-lora submit --preset posters.yaml --stack nasa "a lunar base"
cat prompts.txt | flux-lora submit - --max-cost 1
"""

#: Options that say what becomes of images.
_OF_IMAGES = ("output", "filename", "nsfw", "fail_on_nsfw", "no_download")
_QUOTE = 'For example: flux-lora submit "a cat on the moon". For several prompts repeat -p.'


@dataclass
class PromptOptions:
    """Where prompts come from."""

    prompts: Annotated[list[str] | None, option("--prompt -p", "TEXT", "A prompt; repeatable.")] = None
    preset: Annotated[str | None, option("--preset", "FILE", "Use a preset's defaults, or with --job its jobs.")] = None
    stack: Annotated[
        str | None, advanced("--stack", "NAME", "LoRA stack of the preset to use.", complete=offer_stacks)
    ] = None
    job: Annotated[
        str | None, advanced("--job", "ID", "Jobs of the preset to submit (a glob).", complete=offer_jobs)
    ] = None
    expand: Annotated[
        bool, advanced_flag("--expand", "Expand {a|b} and __wildcards__ in prompts (default: literal).")
    ] = False


@command
def submit(
    prompt: Annotated[list[str] | None, argument("PROMPT", "A prompt in quotes, or - to read one per line.")] = None,
    wait: Annotated[bool, flag("--wait", "Wait for the tasks and save their images.")] = False,
    *,
    prompts: PromptOptions,
    options: RunOptions,
    console: Console,
) -> int:
    """Submit tasks and print one task ID per line.

    It always submits: two equal requests are two tasks. Prompts are literal unless --expand is given. With --wait the
    images are saved as the wait command saves them, and their paths are printed instead.
    """
    check(options, console)
    texts = _prompts(prompt or [], prompts.prompts or [])
    from flux_lora_cli.presets.load import MAX_JOBS, build_prompt_jobs

    most = max(MAX_JOBS, len(texts))  # prompts that were written out one by one are meant
    load = load_options(options, options, expand=prompts.expand, max_jobs=most, **request(options))
    allow = options.allow_path or ()
    loaded = build_prompt_jobs(texts, load, preset=prompts.preset, stack=prompts.stack, job=prompts.job, allow=allow)
    for params in (job.params for job in loaded.jobs):
        if not str(params.get("prompt") or "").strip() and not params.get("image") and not params.get("images"):
            raise UsageError("the prompt is empty, and there is no image", "Is a shell variable in it not set?")
    if any(map(_is_split, texts)) and not prompts.expand:
        console.warn("a prompt has an unmatched brace; the shell splits an unquoted {a|b}", "quoting")
    tell_notes(loaded, console)
    return submit_jobs(loaded.jobs, load.models, options, console, wait=wait)


def _prompts(positional: list[str], named: list[str]) -> list[str]:
    if len(positional) > 1:
        why = " (the shell splits an unquoted {a|b})" if any(map(_is_split, positional)) else ""
        shown = " | ".join(map(printable, positional[:4]))
        raise UsageError(f"submit takes one prompt, and got {len(positional)}: {shown}; quote the prompt{why}", _QUOTE)
    if positional == ["-"] and named:
        raise UsageError("- reads the prompts from standard input; -p cannot be added to it")
    return [unicode(text) for text in (read_lines("prompt") if positional == ["-"] else [*positional, *named])]


def _is_split(text: str) -> bool:
    return text.count("{") != text.count("}")


# ---- shared with replay ----------------------------------------------------------------------


def submit_jobs(jobs: Sequence[Job], models: Models, options: RunOptions, console: Console, *, wait: bool) -> int:
    """Submit jobs, or with ``--dry-run`` only say what that would cost; with ``wait`` also save their images."""
    from flux_lora_cli.commands.progress import money_words

    if options.dry_run:
        return _dry_run(jobs, models, options, console)
    unused = ", ".join(f"--{name.replace('_', '-')}" for name in _OF_IMAGES if name in console.given)
    if unused and not wait:
        console.warn(f"no image is saved without --wait, so {unused} has no effect", "unused_option")

    def accepted(record: JobRecord) -> None:
        if not wait:
            console.result(record.task_id or "")

    hint = f"To see what was submitted: {shlex.join(['flux-lora', 'status', *options.words])}"
    with running(options, console, hint=hint, what="task", end="done" if wait else "submitted") as run:
        from flux_lora_cli.engine import tasks  # not before the key is there

        result = tasks.submit_jobs(
            jobs, run.client, run.service, run_settings(options, console),
            models=models, api_version=options.api_version, reach=options.words,
            folder=options.output or options.default_folder() if wait else None,
            confirm=partial(confirmed, options=options, console=console),
            observer=run.observer, accepted=accepted, stop=run.stop,
        )  # fmt: skip
    code = tell_end(result, console)
    money = money_words(result, console)
    if result.submitted and money:
        console.info(f"{counted(result.submitted, 'task')} submitted; {money}")
    return code


def _dry_run(jobs: Sequence[Job], models: Models, options: RunOptions, console: Console) -> int:
    """What would be submitted, and its documented cost; connects to nothing. Raises BudgetError."""
    from flux_lora_cli.commands.progress import cost_words
    from flux_lora_cli.engine.assemble import check_month
    from flux_lora_cli.engine.budget import check_budget, plain, price_documented
    from flux_lora_cli.engine.plan import BatchPlan, plan_work
    from flux_lora_cli.folder.records import JobRecord

    plan = BatchPlan([plan_work(JobRecord(""), job, models, options.api_version) for job in jobs])
    total = price_documented(plan, options.price)
    images = sum(work.record.images_asked for work in plan.works)
    what = f"{counted(len(jobs), 'task')} to submit, {counted(images, 'image')}"
    console.result(f"{what}, {cost_words(plan.works)}")
    usd = None if total is None else plain(total)
    console.summary.update(tasks=len(jobs), images=images, cost_usd=usd, dry_run=True)
    error = check_budget(options.max_cost, total) or check_month(run_settings(options, console), options.name, total)
    if error is not None:
        raise error
    return 0
