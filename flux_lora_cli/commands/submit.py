"""``flux-lora submit``: one task ID per line."""

from __future__ import annotations

import shlex
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.commands.connection import check, default_folder, service_name, service_words
from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.generate import GenerateOptions, PromptOptions, check_text, load_options
from flux_lora_cli.commands.options import SaveOptions, ServiceOptions, SpendOptions, command
from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import Work
    from flux_lora_cli.folder.records import JobRecord
    from flux_lora_cli.presets.load import Loaded
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


@command
def submit(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT", parser=str, help="A prompt in quotes, or - to read one per line.", show_default=False
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the tasks and save their images.")] = False,
    *,
    prompts: PromptOptions,
    generate: GenerateOptions,
    spend: SpendOptions,
    service: ServiceOptions,
    save: SaveOptions,
    console: Console,
) -> int:
    """Submit tasks and print one task ID per line.

    It always submits: two equal requests are two tasks. Prompts are literal unless --expand is given. With --wait the
    images are saved as the wait command saves them, and their paths are printed instead.
    """
    from flux_lora_cli.commands.running import run_settings

    check(service, console)
    texts = _prompts(prompt or [], prompts)
    run_settings(spend, save, console)  # refuse a wrong template before anything is read
    from flux_lora_cli.presets.load import build_prompt_jobs

    options = load_options(generate, service, expand=prompts.expand)
    loaded = build_prompt_jobs(
        texts,
        options,
        preset=prompts.preset,
        stack=prompts.stack,
        job=prompts.job,
        allow=generate.allow_path or (),
    )
    for job in loaded.jobs:
        params = job.params
        if not str(params.get("prompt") or "").strip() and not params.get("image") and not params.get("images"):
            raise UsageError("the prompt is empty, and there is no image", "Is a shell variable in it not set?")
    for note in loaded.notes:
        console.note(note)
    if spend.dry_run:
        return dry_run(loaded, options.models, spend, service, console)
    return submit_and_wait(loaded, options.models, spend, save, service, console, wait=wait)


def _prompts(positional: list[str], options: PromptOptions) -> list[str]:
    named = options.prompts or []
    if len(positional) > 1:
        braces = any(word.count("{") != word.count("}") for word in positional)
        why = " (an unquoted {a|b} is taken apart by the shell)" if braces else ""
        shown = " | ".join(printable(word) for word in positional[:4])
        raise UsageError(f"submit takes one prompt, and got {len(positional)}: {shown}; quote the prompt{why}", _QUOTE)
    check_text("PROMPT", *positional)
    check_text("--prompt", *named)
    check_text("--stack", options.stack or "")
    check_text("--job", options.job or "")
    if positional != ["-"]:
        return [*positional, *named]
    if named:
        raise UsageError("- reads the prompts from standard input; -p cannot be added to it")
    from flux_lora_cli.commands.ids import read_lines

    return read_lines("prompt")


def submit_and_wait(
    loaded: Loaded,
    models: Models,
    spend: SpendOptions,
    save: SaveOptions,
    service: ServiceOptions,
    console: Console,
    *,
    wait: bool,
) -> int:
    """Submit the jobs; with ``wait`` also save their images. Shared with ``replay``."""
    from flux_lora_cli.commands.running import confirmed, money_words, run_settings, running, tell_end
    from flux_lora_cli.engine.budget import plain
    from flux_lora_cli.engine.tasks import submit_jobs

    unused = ", ".join(f"--{name.replace('_', '-')}" for name in _OF_IMAGES if name in console.given)
    if unused and not wait:
        console.warn(f"no image is saved without --wait, so {unused} has no effect", "unused_option")

    def accepted(record: JobRecord) -> None:
        if not wait:
            console.result(record.task_id or "")

    def ask(works: list[Work]) -> bool:
        prices = [work.unit_price for work in works]
        known = [price for price in prices if price is not None]
        total = sum(known, Decimal(0)) if len(known) == len(prices) else None
        return confirmed(sum(work.record.images_asked for work in works), total, spend, console)

    status = shlex.join(["flux-lora", "status", *service_words(service)])
    with running(service, console, resume=f"{status} shows what was submitted", what="images", shown=wait) as run:
        result = submit_jobs(
            loaded.jobs,
            run.client,
            run.service,
            run_settings(spend, save, console),
            models=models,
            api_version=service.api_version,
            folder=save.output or default_folder(service) if wait else None,
            reach=service_words(service),
            observer=run.observer,
            accepted=accepted,
            confirm=ask,
            stop=run.stop,
        )
    code = tell_end(result, console)
    console.summary.update(
        submitted=result.submitted,
        charged_usd=None if result.charged is None or service.sandbox else plain(result.charged),
    )
    money = money_words(result, sandbox=service.sandbox)
    if result.submitted and money:
        console.info(f"{counted(result.submitted, 'task')} submitted; {money}")
    return code


def dry_run(loaded: Loaded, models: Models, spend: SpendOptions, service: ServiceOptions, console: Console) -> int:
    """What would be submitted, and its documented cost; connects to nothing. Raises BudgetError."""
    from flux_lora_cli.engine.assemble import check_month
    from flux_lora_cli.engine.budget import check_budget, dollars, plain
    from flux_lora_cli.engine.settings import Settings

    images, total = 0, Decimal(0)
    known = True
    for job in loaded.jobs:
        model = models.find(job.model, service.api_version, allow_unknown=True)
        request = model.request(job.params, job.seed or 0)
        count = int(request.get("num_images", 1))
        price = spend.price * count if spend.price is not None else model.price_of(request)
        images += count
        known = known and price is not None
        total += price or Decimal(0)
    source = "at --price" if spend.price is not None else "at the documented price; the service may charge another"
    cost = f"{dollars(total)} ({source})" if known else "price not known (name it with --price)"
    console.result(f"{counted(len(loaded.jobs), 'task')} to submit, {counted(images, 'image')}, {cost}")
    console.summary.update(
        tasks=len(loaded.jobs), images=images, cost_usd=plain(total) if known else None, dry_run=True
    )
    planned, settings = total if known else None, Settings(max_month=spend.max_month, price=spend.price)
    error = check_budget(spend.max_cost, planned) or check_month(settings, service_name(service), planned)
    if error is not None:
        raise error
    return 0
