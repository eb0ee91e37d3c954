"""The schemas that are shipped and printed are those of the program."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import jsonschema
import pytest

from tests.conftest import ROOT, Cli


def built(name: str) -> Any:
    """What the script that writes a schema makes of the program as it is."""
    spec = importlib.util.spec_from_file_location("script", ROOT / ".ci" / f"{name}-schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return json.loads(json.dumps(module.build()))


@pytest.mark.parametrize("name", ["event", "preset"])
def test_the_shipped_schema_is_the_programs(name: str) -> None:
    shipped = (ROOT / "flux_lora_cli" / "resources" / f"{name}.schema.json").read_text("utf-8")
    assert json.loads(shipped) == built(name), f"run: python .ci/{name}-schema.py"


@pytest.mark.parametrize("name", ["preset", "manifest", "event"])
def test_each_is_printed_and_is_one(cli: Cli, name: str) -> None:
    document = json.loads(cli("schema", name).out)
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
