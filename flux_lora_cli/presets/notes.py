"""What is valid and probably not meant: one table of kinds, and the rules that find them (pure).

A note changes nothing: what it names is sent as it is. ``--strict`` makes notes problems.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from flux_lora_cli.presets.job import Job
from flux_lora_cli.presets.lists import looks_like_table
from flux_lora_cli.presets.nodes import Node, Problems, repeated
from flux_lora_cli.service.models import Model
from flux_lora_cli.service.values import lora_path_problem
from flux_lora_cli.text import counted, mask_secrets, quoted

_SUSPICIOUS = re.compile(r"[<＜\[(:+/—–\x00-\x08\x0b-\x1f\x7f-\x9f\xa0\ufeff]|(?<!\$)\{|--| -\w|__|Steps|withLora")
#: A LoRA or a tag as A1111, ComfyUI, InvokeAI and SwarmUI write it.
_TAG = re.compile(
    r"(?<!\\)(?!(?-i:<lora:)|<(?:https?|mailto):)(?:<\s*lora[\s:=/][^<>\n]{1,300}>|<[a-z][a-z_-]{0,20}(?:\[[^\[\]<>\n]{0,80}\])?:[^\s<>][^<>\n]{0,300}>"
    r"|<(?:break|trigger|refiner)>|(?:[\[({＜]|&lt;)\s*lora:[^\s()\[\]{}<>]{1,200}"
    r"|\bwithLora\([^()\n]{1,200}\)|\bembedding:[\w./-]{1,100})",
    re.IGNORECASE,
)
#: ``{2::fox|hen}`` (Dynamic Prompts), ``fox::2`` (Midjourney), ``1.5::fox::`` (NovelAI), ``(fox)++`` (InvokeAI); not
#: ``::`` in prose, or in an address.
_WEIGHTED = re.compile(
    r"(?<=[{|])(?<!\\[{|])\s{0,9}\d{0,4}\.?\d{1,4}::|(?:(?<=[^\W\d_])|(?<=[\s)]))::-?\d{0,4}\.?\d{1,4}(?![\w:])"
    r"|(?<![\w.:\\-])-?\d{0,4}\.?\d{1,4}::[^:\n{|}]{1,200}::|\)\+{2,}(?!\w)"
)
_WILDCARD = re.compile(
    r"(?<![\\_])__(?=[^_\s]*[A-Za-z])(?:[@~][\w./*-]{1,80}?|[\w./-]{0,80}?\*[\w./*-]{0,80}?"
    r"|[\w./-]{1,80}?\([^()\n]{0,80}\))__(?!_)"
)
#: ``{red, blue}`` (Midjourney); braces around code and sets of letters are text.
_LISTED = re.compile(r"(?<!\\)\{[^\W\d]\w[\w -]{0,80}(?:,\s{0,3}[^\W\d]\w[\w -]{0,80}){1,20}\}")
_OPTION = re.compile(
    r"(?:^|\s)(?:--(?:prompt|negative[_-]?prompt|neg|seed|steps|cfg[_-]?scale|guidance|sampler(?:[_-]name)?|width|height|ar"
    r"|aspect|version|stylize|quality|chaos|niji|no|style|sref|cref|oref|iw|tile|weird|raw|hd|p|profile|draft|relax|fast"
    r"|turbo|video|loop|n_iter|batch_size|outpath)(?=[\s=:]|$)|--[a-z][a-z_-]{0,30}[ =]-?\d"
    r"|[—–](?:ar|v|s|q|c|w|iw|cw|ow|seed|stylize|chaos|weird|niji)\s+\d|-[sSWHCnA] ?\d+(?:\.\d+)?(?=\s|$))"
    r"|^\s*/imagine\s+prompt\b"
)
_INFOTEXT = re.compile(
    r"^[ \t]*(?:negative prompt|undesired content):|\bsteps:\s*\d+,\s*(?:sampler|cfg scale|seed|size|schedule type):"
    r"|\bmodel hash:\s*[0-9a-f]{6}|\bcfg scale:\s*\d|\"class_type\"|\"(?:positive|negative)_prompt\"\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_EDITING = re.compile(
    r"\[(?=[^\]]{0,400}[A-Za-z])(?:[^\[\]:|]{0,200}(?<!\\):[^\[\]:|]{0,200}(?<!\\):\d{0,4}\.?\d{1,4}"
    r"|[^\[\]:|]{1,200}(?<!\\):0?\.\d{1,4}|[^\[\]|{}\n]{1,80}(?<!\\)\|[^\[\]{}\n]{1,80})\]|\)\.(?:blend|and)\([^()\n]{0,80}\)|\.swap\([^()\n]{1,80}\)"
)
_COUNT = re.compile(r"(?<!\\)\{\s{0,9}\d{0,4}-?\d{0,4}\$\$")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
_PLACEHOLDER = re.compile(
    r"(?<!\\)(?:%([\w-]{1,60})%|%\(([\w-]{1,60})\)s|<([\w-]{1,60})>|\[\[?([\w-]{1,60})\]|\$\(([\w-]{1,60})\)"
    r"|(?<!\$)\{\s{0,9}([\w-]{1,60})\s{0,9}\}|\$([A-Za-z_][\w-]{0,60}))"
)
#: What the language reads, in a prompt that is to be literal.
_MARKS = re.compile(r"<lora:[^<>]+>|\{[^{}]*\|[^{}]*\}|\$\{[^{}]+\}|__[A-Za-z0-9](?:[A-Za-z0-9./-]|_(?!_)){0,99}__")
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)
#: Marks of one kind in one prompt that are told.
_MOST = 3
_HEADERS = ("prompt", "prompts", "text", "caption")


class Kind(NamedTuple):
    """A rule: why it matters, and what silences it; of marks in a prompt their form, and what to escape in them."""

    reason: str
    silence: str
    form: re.Pattern[str] | None = None
    escapes: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "weight": Kind("weights are not read here", r"write \:: for literal colons", _WEIGHTED, ("::",)),
    "count": Kind("counts of choices are not read, and one is made", r"write \$$ for literal dollars", _COUNT, ("$$",)),
    "choices": Kind("choices are written {a|b}", r"write \{ for a literal brace", _LISTED, ("{",)),
    "wildcard": Kind("a wildcard is written __name__", r"write \__ for literal underscores", _WILDCARD, ("__",)),
    "tag": Kind("did you mean <lora:PATH:SCALE>? Other tags are not read here", r"write \< for a tag", _TAG, ("<",)),
    "options": Kind("parameters are set as keys, or as columns of a .csv", r"write \-- for dashes", _OPTION, ("--",)),
    "infotext": Kind("this looks like pasted generation data of another tool", "delete it", _INFOTEXT),
    "editing": Kind("prompt editing is not read here", r"write \: or \| for literal ones", _EDITING, ("|", ":")),
    "header": Kind("the first line of a list looks like a table's header", "delete it, or name the file .csv"),
    "placeholder": Kind("a variable's name without ${…} is sent as text", r"write \{, \$ or \<, or rename it"),
    "comment": Kind("a YAML comment (space, #) ends a text", "put the text in quotes; or write two spaces before #"),
    "space": Kind(r'in double quotes YAML reads \_ as a no-break space', r"write \\_ there, or use single quotes"),
    "number": Kind("a spreadsheet shortens a long number, and its last digits are lost", "write all digits"),
    "control": Kind("a control character or byte order mark in a text", "delete it"),
    "unused": Kind("a variable or stack that nothing uses", "use it, or delete it"),
    "axis": Kind("a matrix axis that nothing uses", "delete the axis, or what overrides it"),
    "equal-choices": Kind("choices that are equal make the same job twice", "delete one; several images: repeat"),
    "equal-requests": Kind("jobs whose requests are equal are paid for one by one", "delete one; or give it a seed"),
    "duplicate": Kind("jobs that are the same are made once", "delete one; several images: repeat"),
    "no-effect": Kind("a parameter without effect", "delete it, or set what it belongs to"),
    "secret": Kind("a secret in a URL is shown in reviews and sent to the service", "use a URL without one"),
    "lora-path": Kind("a LoRA path that the service cannot load", "write the form that the note names"),
    "lora-twice": Kind("the same LoRA twice in one stack", "add up the scales"),
    "literal": Kind("prompts of lists are literal unless --expand", "add --expand"),
}  # fmt: skip


def note_prompt(text: str, node: Node, problems: Problems, variables: Mapping[str, Any], literal: bool) -> None:
    """Say what in a prompt belongs to other tools, and what YAML did to it."""
    for kind, message in _in_prompt(text, node, variables, literal):
        problems.note(node.where, kind, message)
    note_secrets(text, node, problems)


def _in_prompt(text: str, node: Node, variables: Mapping[str, Any], literal: bool) -> Iterator[tuple[str, str]]:
    if literal:  # no backslash silences anything
        text, variables = text.replace("\\", " "), {}
    if node.mark == "comment":
        yield (
            "comment",
            f"the text ends at {quoted(text[-30:])}: YAML takes the rest (#) for a comment; put it in quotes",
        )
    if node.mark == "space":
        yield "space", r"in double quotes YAML reads \_ as a no-break space; write \\_, or use single quotes"
    for kind, rule in KINDS.items() if _SUSPICIOUS.search(text) else ():
        for found in islice(rule.form.finditer(text), _MOST) if rule.form else ():
            escaped = [] if literal else [node.escape(mark) for mark in rule.escapes if mark in found[0]]
            how = f" (literal: {escaped[0]})" if escaped else ""
            yield kind, f"{quoted(found[0].strip())} is sent as text: {rule.reason}{how}"
    for found in _PLACEHOLDER.finditer(text):
        name = next(filter(None, found.groups()))
        if name in variables or found[0] == "{prompt}":
            yield "placeholder", f"{quoted(found[0])} is sent as it is; a variable is written ${{{name}}}"
    if control := _CONTROL.search(text):
        yield "control", f"the prompt holds the control character U+{ord(control[0]):04X}"


def note_list(kind: str, prompts: Sequence[Node], literal: bool, problems: Problems) -> None:
    """Say what holds for a list of prompts: marks that are sent as they stand, a header line."""
    first = prompts[0].text if kind == "txt" and prompts else ""
    header = first.strip(' ":').lower() in _HEADERS or looks_like_table(first)
    if header and (len(prompts) > 1 or first.startswith("{")):
        message = f"{quoted(first)} looks like a table's header, or JSON; it would be sent as a prompt"
        problems.note(prompts[0].where, "header", message)
    marked = [node for node in prompts if _MARKS.search(str(node.value))] if literal else []
    if marked:
        marks = f"<lora:…>, {{…|…}} or __…__ in {counted(len(marked), 'prompt')}"
        problems.note(marked[0].where, "literal", f"{marks}: sent as text; --expand reads them")


def note_loras(loras: Sequence[Any], node: Node, problems: Problems) -> None:
    """Say which LoRAs of a list never load, are there twice, or carry a secret.

    Args:
        node: where they are written: a list, or all of them in one place (a cell, a prompt, an option).
    """
    seen: dict[str, Node] = {}
    for number, lora in enumerate(loras):
        path = lora["path"]
        place = (node.items[number].get("path") if isinstance(node.value, list) else None) or node
        note_secrets(path, place, problems)
        if why := lora_path_problem(path):
            problems.note(place.where, "lora-path", why)
        if path in seen:
            told = f"the LoRA {quoted(path)} is twice in this stack (line {seen[path].line})"
            problems.note(place.where, "lora-twice", told)
        seen[path] = place


def note_secrets(text: str, node: Node, problems: Problems) -> None:
    """Say that a URL in a text carries a token or password."""
    if "://" in text and (masked := mask_secrets(text)) != text:
        seen = "all who read this file see it, and the service gets it"
        problems.note(node.where, "secret", f"a secret in the URL {quoted(masked, 120)}: {seen}")


def note_job_loras(parts: Iterable[Sequence[Mapping[str, Any]]], node: Node, problems: Problems) -> None:
    """Say that one LoRA is in several parts of a job: its stacks, its own LoRAs, its tags."""
    twice = repeated(path for part in parts for path in {lora["path"]: None for lora in part})
    if twice is not None:
        problems.note(node.where, "lora-twice", f"the LoRA {quoted(twice)} is twice in this job")


def note_requests(jobs: Sequence[Job], tables: Mapping[str, Model], problems: Problems, once: bool) -> None:
    """Tell duplicates, and jobs whose final requests are equal under different fingerprints; refuse what is no JSON.

    Args:
        tables: the models by their IDs.
        once: equal jobs are made once; else (``submit``) each is, as it was asked for.
    """
    requests: dict[str, list[Job]] = {}
    for job in jobs:
        body = tables[job.model].request(job.params, job.seed if job.seed is not None else -1 - job.repeat)
        try:
            requests.setdefault(_ENCODER.encode([job.model, body]), []).append(job)
        except ValueError:  # of a model without a table
            problems.at(job.where, job.id, "a number that is not finite (inf, nan) cannot be sent")
    for group in requests.values() if once else ():
        prints: dict[str, list[Job]] = {}
        for job in group if len(group) > 1 else ():
            prints.setdefault(job.fingerprint, []).append(job)
        for first, *others in prints.values():
            if others:
                told = f"{counted(len(others), 'duplicate')} of {first.id} ({_some(others)}): made once"
                message = f"{told}; for {len(others) + 1} images use repeat: {len(others) + 1}"
                problems.note(others[0].where, "duplicate", message)
        if len(prints) > 1:
            paid = [first for first, *_ in prints.values()]
            message = f"{len(paid)} jobs end in the same request and are paid for one by one: {_some(paid)}"
            problems.note(paid[1].where, "equal-requests", message)


def _some(jobs: Sequence[Job]) -> str:
    ids = ", ".join(job.id for job in jobs[:5])
    return ids + (f", … ({len(jobs)})" if len(jobs) > 5 else "")
