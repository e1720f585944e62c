"""Every member of the three formats that may hold an id of a provider's: sealed, refused, or known to name nothing there.

The members are found in the official SDKs' own types, so that one which a new version brings fails here until it is judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, get_args, get_origin

import pytest
import typing_extensions
from anthropic.types import message_create_params
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from anthropic.types.beta import message_create_params as beta_message_create_params
from openai.types.chat import ChatCompletion, ChatCompletionChunk, completion_create_params
from openai.types.responses import Response, ResponseStreamEvent, response_create_params
from pydantic import BaseModel

from llm.platform import references
from llm.platform.references import Places
from llm.platform.sealed_ids import Kind
from llm.wire import responses, sources
from registry import judged
from registry.errors import InvalidRequest

ASKED: dict[str, tuple[Any, ...]] = {
    "chat": (completion_create_params.CompletionCreateParamsNonStreaming,),
    "responses": (response_create_params.ResponseCreateParamsNonStreaming,),
    "messages": (
        message_create_params.MessageCreateParamsNonStreaming,
        beta_message_create_params.MessageCreateParamsNonStreaming,
    ),
}
ANSWERED: dict[str, tuple[Any, ...]] = {
    "chat": (ChatCompletion, ChatCompletionChunk),
    "responses": (Response, ResponseStreamEvent),
    "messages": (BetaMessage, BetaRawMessageStreamEvent),
}

OF_THE_CONVERSATION = "it joins parts of the conversation that the request holds whole, and names nothing elsewhere"
UNSTORED = "the provider is asked to store nothing, so that the id of an item or of an answer names nothing there"
THE_HUBS = "the hub reads and says it itself: an id of its own, sealed or of a record that has an owner"
REFUSED = "refused where sources are read: llm.wire.sources, llm.wire.response_items"
THE_CALLERS = "the caller's own word for its user or its requests"
A_HEADER = "the SDK sends it as a header, and the hub passes on anthropic-version and anthropic-beta only"
COMPARED = "an id that only its caller has seen; what is told of it is where two prompts part"
UNASKED = "only in answers to what is refused: prompt.id"

HARMLESS: dict[str, dict[str, str]] = {
    "asked chat": {"messages.*.tool_calls.*.id": OF_THE_CONVERSATION, "messages.*.tool_call_id": OF_THE_CONVERSATION},
    "asked responses": {
        "*.call_id": OF_THE_CONVERSATION,
        "*.caller_id": OF_THE_CONVERSATION,
        "input.[*].*_safety_checks.[*].id": OF_THE_CONVERSATION,
        "input.[*].id": UNSTORED,
        "*tools.[*].connector_id": REFUSED,
        "*tools.[*].tunnel_id": REFUSED,
        "input.[*].approval_request_id": THE_HUBS,
        "conversation.id": THE_HUBS,
        "previous_response_id": THE_HUBS,
        "background_options.continuation_id": THE_CALLERS,
    },
    "asked messages": {
        "messages.*.tool_use_id": OF_THE_CONVERSATION,
        "messages.*.tool_id": OF_THE_CONVERSATION,
        "messages.[*].content.[*].id": OF_THE_CONVERSATION,
        "messages.*.download_id": OF_THE_CONVERSATION,
        "messages.*.tab_id": OF_THE_CONVERSATION,
        "metadata.user_id": THE_CALLERS,
        "diagnostics.previous_message_id": COMPARED,
        "user_profile_id": A_HEADER,
        "workspace_id": A_HEADER,
    },
    "answered chat": {"id": UNSTORED, "choices.*.tool_calls.[*].id": OF_THE_CONVERSATION},
    "answered responses": {
        "*.call_id": OF_THE_CONVERSATION,
        "*.caller_id": OF_THE_CONVERSATION,
        "*_safety_checks.[*].id": OF_THE_CONVERSATION,
        "*input_transformations.[*].id": OF_THE_CONVERSATION,
        "item_id": UNSTORED,
        "item.id": UNSTORED,
        "*output.[*].id": UNSTORED,
        "*.approval_request_id": UNSTORED,
        "id": THE_HUBS,
        "response.id": THE_HUBS,
        "*previous_response_id": THE_HUBS,
        "*conversation.id": THE_HUBS,
        "tools.*": THE_HUBS,
        "response.tools.*": THE_HUBS,
        "*tools.[*].connector_id": REFUSED,
        "*tools.[*].tunnel_id": REFUSED,
        "*comparison_response_id": REFUSED,
        "*prompt.id": UNASKED,
        "instructions.*": UNASKED,
        "response.instructions.*": UNASKED,
        "*prompt.variables.*": UNASKED,
    },
    "answered messages": {
        "*.tool_use_id": OF_THE_CONVERSATION,
        "*.tool_id": OF_THE_CONVERSATION,
        "*content.[*].id": OF_THE_CONVERSATION,
        "content_block.id": OF_THE_CONVERSATION,
        "id": COMPARED,
        "message.id": COMPARED,
    },
}
"""Members of no kind, by patterns of their paths, in which `[*]` is each item of an array."""

_NAMED = re.compile(r"(^|_)ids?$")


def paths(type_: Any, path: tuple[str, ...] = (), within: tuple[Any, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths to all members of a type that are named as ids; what holds itself is gone into once."""
    inner = get_args(type_)
    if get_origin(type_) is not None:
        name = getattr(get_origin(type_), "__name__", "")
        is_map = name in ("dict", "Mapping")
        is_array = name in ("list", "Iterable", "Sequence", "SequenceNotStr")
        for one in inner[-1:] if is_map else inner:
            yield from paths(one, (*path, "any") if is_map else (*path, "[*]") if is_array else path, within)
        return
    members = members_of(type_)
    if type_ in within or not members:
        return
    for name, of_member in members.items():
        if _NAMED.search(name):
            yield (*path, name, "[*]") if name.endswith("ids") else (*path, name)
        yield from paths(of_member, (*path, name), (*within, type_))


def members_of(type_: Any) -> dict[str, Any]:
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        return {name: field.annotation for name, field in type_.model_fields.items()}
    return typing_extensions.get_type_hints(type_) if typing_extensions.is_typeddict(type_) else {}


def kind_at(path: tuple[str, ...], places: Places) -> str | None:
    """The kind of the id that the hub sees in a body with a text at this path."""
    body: Any = "an id"
    for step in reversed(path):
        body = [body] if step == "[*]" else {step: body}
    seen: list[Kind] = []

    def note(kind: Kind, text: str) -> str:
        seen.append(kind)
        return text

    references.in_object(judged.read_object(json.dumps(body).encode()), places, note)
    return seen[0] if seen else None


SIDES = [(side, name) for side, table in (("asked", ASKED), ("answered", ANSWERED)) for name in table]


@pytest.mark.parametrize(("side", "name"), SIDES)
def test_every_id_is_sealed_refused_or_known_to_name_nothing(side: str, name: str) -> None:
    types, places = (ASKED, references.ASKED) if side == "asked" else (ANSWERED, references.ANSWERED)
    harmless = HARMLESS[f"{side} {name}"]
    found = {path for type_ in types[name] for path in paths(type_)}
    assert len(found) >= 5
    bare = {".".join(path) for path in found if kind_at(path, places[name]) is None}
    judged_of = {path: [pattern for pattern in harmless if fnmatchcase(path, _pattern(pattern))] for path in bare}
    assert sorted(path for path, patterns in judged_of.items() if not patterns) == []
    assert set(harmless) == {pattern for patterns in judged_of.values() for pattern in patterns}, "no idle excuses"


def _pattern(text: str) -> str:
    return text.replace("[*]", "[[][*][]]")


SEALED_OR_REFUSED: dict[str, dict[str, str]] = {
    "chat": {
        "messages.[*].content.[*].file.file_id": "file",
        "messages.[*].audio.id": "audio",
        "audio.voice.id": "voice",
    },
    "responses": {
        "input.[*].content.[*].file_id": "file",
        "input.[*].tools.[*].vector_store_ids.[*]": "vector store",
        "tools.[*].container.file_ids.[*]": "file",
        "tools.[*].environment.container_id": "container",
        "tools.[*].environment.skills.[*].skill_id": "skill",
        "prompt.id": "prompt",
        "prompt_cache_options.comparison_response_id": "response",
    },
    "messages": {
        "container.id": "container",
        "container.skills.[*].skill_id": "skill",
        "messages.[*].content.[*].source.file_id": "file",
        "thread.previous_message_id": "thread",
    },
}


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, table in SEALED_OR_REFUSED.items() for path in table]
)
def test_an_id_is_of_its_kind(name: str, path: str) -> None:
    assert kind_at(tuple(path.split(".")), references.ASKED[name]) == SEALED_OR_REFUSED[name][path]


@pytest.mark.parametrize("kind", ["connector_id", "tunnel_id"])
def test_what_leads_to_servers_by_way_of_the_provider_is_refused(kind: str) -> None:
    tool = {"type": "mcp", "server_label": "x", "server_url": "hub", kind: "theirs"}
    with pytest.raises(InvalidRequest, match=kind):
        sources.read_tools(judged.read_object(json.dumps({"tools": [tool]}).encode())["tools"], "http://hub")
    spaced = {"model": "m", "input": "x", "tools": [{"type": "namespace", "name": "n", "tools": [tool]}]}
    with pytest.raises(InvalidRequest, match="in no namespace"):
        responses.read_request(json.dumps(spaced).encode(), public_url="http://hub")
    for item in ("additional_tools", "tool_search_output"):
        asked = {"model": "m", "input": [{"type": item, "tools": [tool]}]}
        with pytest.raises(InvalidRequest, match="in tools of the request"):
            responses.read_request(json.dumps(asked).encode(), public_url="http://hub")


def test_skills_of_the_providers_own_are_names_and_pass() -> None:
    asked = {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}, {"type": "custom", "skill_id": "s"}]}}
    changed = references.in_request(json.dumps(asked).encode(), references.ASKED["messages"], lambda *of: "-".join(of))
    assert [one["skill_id"] for one in json.loads(changed)["container"]["skills"]] == ["pptx", "skill-s"]
