"""Services that are reached by any-llm-sdk, in an environment without it; tests/foreign/test_any_llm.py has the rest."""

from __future__ import annotations

import importlib.util
import sys
from datetime import date
from typing import Any

import pytest

from llm.ports import ModelRequest
from llm.providers.anyllm import AnyLLM
from llm.providers.rows.sdks import ROWS
from llm.providers.table import NAMES, TABLE, formats_of
from registry.access import Grants
from registry.egress.http import Deadlines
from registry.entries import Model
from registry.errors import UpstreamUnavailable
from registry.identity import Principal
from tests.conftest import OpenHub
from tests.recording import RecordingGate

CALLER = Principal(id="key_1", name="k", grants=Grants.parse(("model:*",)))
BODY = b'{"model":"x","messages":[]}'


async def refusal(**members: Any) -> str:
    model = Model(**{"name": "m", "provider": "google", "model": "x", **members})
    settled: list[Any] = []
    gate = RecordingGate(settled.append)
    gate.settled = settled
    provider = AnyLLM(keys={"GEMINI_API_KEY": "k"}, deadlines=Deadlines())
    with pytest.raises(UpstreamUnavailable) as caught, gate.admit(CALLER, model, request_id="r") as permit:
        async with provider.call(permit, model, ModelRequest(BODY, stream=False)):
            pass
    gate.check()
    return caught.value.reason


async def test_entry_that_needs_the_extra_says_what_to_install() -> None:
    assert importlib.util.find_spec("any_llm") is None
    assert await refusal() == "provider 'google' needs: pip install 'hubbub[any-llm]' 'any-llm-sdk[gemini]'"


async def test_it_goes_nowhere_that_a_user_wrote() -> None:
    told = await refusal(base_url="https://theirs.example", trusted=False, owner="api")
    assert told.endswith("so a base_url of it can only stand in hub.yaml")


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"provider": "vertex_ai", "base_url": "https://x.example"}, "provider 'vertex_ai' takes no base_url"),
        ({"provider": "watsonx"}, "provider 'watsonx' needs the model's base_url"),
        ({"headers": (("x", "y"),)}, "is reached by an SDK, which sends no headers of the model's"),
    ],
)
async def test_what_it_would_ignore_is_refused(members: dict[str, Any], told: str) -> None:
    assert told in await refusal(**members)


async def test_hub_with_such_a_model_imports_nothing_for_it_and_says_so_to_its_caller(hub: OpenHub) -> None:
    async with hub("models: {g: {provider: google, model: x}}") as running:
        key = await running.key("model:g")
        async with running.http(key) as client:
            answer = await client.post("/v1/chat/completions", json={"model": "g", "messages": []})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
        assert "pip install 'hubbub[any-llm]' 'any-llm-sdk[gemini]'" in answer.text
        assert not {"any_llm", "google.genai", "boto3"} & sys.modules.keys()


@pytest.mark.parametrize("name", ROWS)
def test_row_has_a_name_of_its_own_a_page_and_speaks_chat(name: str) -> None:
    row = ROWS[name]
    assert name not in TABLE
    assert name in NAMES
    assert row.page.startswith("https://")
    assert date(2026, 1, 1) <= date.fromisoformat(row.seen)
    assert formats_of(Model(name="m", provider=name, model="x")) == ("chat",)
