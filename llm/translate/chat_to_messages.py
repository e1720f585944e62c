"""A request in OpenAI's chat completions, said in Anthropic's Messages format. Pure.

What would change the answer and cannot be said is refused by name; what only labels a request (`store`, `metadata`) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from llm.translate.whole import blocks, translated
from llm.types import Prompt
from registry.errors import InvalidRequest
from registry.judged import JsonObject

MAX_TOKENS = 32_000
"""Anthropic's format demands a bound; this one, which all its models bear, holds where the caller gives none."""

_SAME = ("temperature", "top_p", "top_k", "thinking")
"""The last two are Anthropic's own: who calls its models in OpenAI's format writes them so."""

_LABELS = frozenset(
    {"model", "stream", "stream_options", "store", "metadata", "service_tier", "prompt_cache_key", "safety_identifier"}
    | {"user", "prompt_cache_retention"}
)
_SAID = frozenset(
    {*_SAME, "messages", "tools", "tool_choice", "parallel_tool_calls", "stop", "max_tokens", "max_completion_tokens"}
    | {"reasoning_effort", "response_format"}
)
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
}
"""Values that ask for what is so anyway."""

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*?;base64,(.*)", re.DOTALL)


def lacking(members: JsonObject) -> list[str]:
    """The parameters of a request that this format cannot say."""
    return sorted(
        name
        for name in members.keys() - _SAID - _LABELS
        if members[name] is not None and members[name] not in _NEUTRAL.get(name, ())
    )


def prompt(asked: Prompt) -> Prompt:
    """Say a prompt; raises as `request`."""
    return translated(asked, "messages", request, made_by="OpenAI")


def request(members: JsonObject) -> JsonObject:
    """Say a whole request; `model` and `stream` are the sender's to set.

    Raises:
        InvalidRequest: it asks for something that this format cannot say.
    """
    foreign = lacking(members)
    if foreign:
        raise _impossible(", ".join(foreign), foreign[0])
    system, conversation = messages(members.get("messages") or ())
    said: JsonObject = {"max_tokens": members.get("max_completion_tokens") or members.get("max_tokens") or MAX_TOKENS}
    if system:
        said["system"] = system
    said["messages"] = conversation
    said |= {name: members[name] for name in _SAME if members.get(name) is not None}
    stop = members.get("stop")
    if stop:
        said["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if members.get("tools"):
        said["tools"] = [tool(one) for one in members["tools"]]
    choice = tool_choice(members.get("tool_choice"), parallel=members.get("parallel_tool_calls"))
    if choice is not None and ("tools" in said or choice["type"] != "auto"):
        said["tool_choice"] = choice
    said |= _output(members.get("reasoning_effort"), members.get("response_format"), said)
    user = members.get("safety_identifier") or members.get("user")
    return {**said, "metadata": {"user_id": user}} if user else said


def _impossible(what: str, member: str) -> InvalidRequest:
    return InvalidRequest(
        f"{what} cannot be said to this model's provider, which speaks Anthropic's format", member=member
    )


def messages(conversation: Sequence[JsonObject]) -> tuple[str, list[JsonObject]]:
    """Say the conversation: the system prompt, and the messages."""
    system: list[str] = []
    said: list[JsonObject] = []
    for message in conversation:
        role = message.get("role")
        if role in ("system", "developer"):
            system += [str(part.get("text") or "") for part in blocks(message.get("content"))]
        elif role == "assistant":
            _add(said, "assistant", list(_assistant(message)))
        elif role == "tool":
            _add(said, "user", [_result(message)])
        elif role == "user":
            _add(said, "user", [_block(part) for part in blocks(message.get("content"))])
        else:
            raise _impossible(f"a message with the role {role!r}", "messages")
    return "\n\n".join(filter(None, system)), said


def _add(said: list[JsonObject], role: str, content: list[JsonObject]) -> None:
    """Add what a side says. Results and what the user says after them are one message; so are several results."""
    content = [block for block in content if block["type"] != "text" or block["text"]]
    if not content:
        return
    last = said[-1] if said else {}
    if role == "user" == last.get("role") and all(block["type"] == "tool_result" for block in last["content"]):
        last["content"] += content
    else:
        said.append({"role": role, "content": content})


def _assistant(message: JsonObject) -> Iterator[JsonObject]:
    for part in blocks(message.get("content")):
        text = part.get("refusal") if part.get("type") == "refusal" else part.get("text")
        yield {"type": "text", "text": str(text or "")}
    for call in message.get("tool_calls") or ():
        function = call.get("function")
        if not isinstance(function, dict):
            raise _impossible(f"a call of type {call.get('type')!r}", "messages")
        yield {
            "type": "tool_use",
            "id": call_id(call.get("id")),
            "name": function.get("name"),
            "input": arguments(function.get("arguments")),
        }


def call_id(given: object) -> str:
    """A call's id in the characters that are allowed here; the same for a call and its result."""
    return _NOT_IN_IDS.sub("_", str(given))


def arguments(text: object) -> JsonObject:
    """A call's arguments as an object; what a model wrote that is none is kept as text."""
    if not isinstance(text, str) or not text.strip():
        return {}
    try:
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": text}


def _result(message: JsonObject) -> JsonObject:
    content = message.get("content")
    said = content if isinstance(content, str) else [_block(part) for part in blocks(content)]
    return {"type": "tool_result", "tool_use_id": call_id(message.get("tool_call_id")), "content": said}


def _block(part: JsonObject) -> JsonObject:
    """Say one part of what a user says."""
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": str(part.get("text") or "")}
    if kind == "image_url":
        image = part.get("image_url")
        return {"type": "image", "source": _source(image.get("url") if isinstance(image, dict) else image)}
    if kind == "file":
        return _document(part)
    raise _impossible(f"a content part of type {kind!r}", "messages")


def _source(url: object) -> JsonObject:
    if not isinstance(url, str):
        raise InvalidRequest("image_url needs a url", member="messages")
    inline = _DATA_URL.fullmatch(url)
    if inline is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": inline[1], "data": inline[2]}


def _document(part: JsonObject) -> JsonObject:
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, dict) else None
    inline = _DATA_URL.fullmatch(data) if isinstance(data, str) else None
    if not isinstance(file, dict) or inline is None:
        raise _impossible("a file by its id", "messages")
    source = {"type": "base64", "media_type": inline[1], "data": inline[2]}
    document = {"type": "document", "source": source}
    return {**document, "title": file["filename"]} if file.get("filename") else document


def tool(one: JsonObject) -> JsonObject:
    """Say a tool of the caller."""
    function = one.get("function")
    if one.get("type") != "function" or not isinstance(function, dict):
        raise _impossible(f"a tool of type {one.get('type')!r}", "tools")
    said = {"name": function.get("name"), "input_schema": function.get("parameters") or {"type": "object"}}
    return said | {name: function[name] for name in ("description", "strict") if function.get(name) is not None}


def tool_choice(choice: Any, *, parallel: object = None) -> JsonObject | None:
    """Say `tool_choice` and `parallel_tool_calls`; None: nothing needs to be said."""
    said: JsonObject | None = None
    if isinstance(choice, str) and choice in _CHOICES:
        said = {"type": _CHOICES[choice]}
    elif isinstance(choice, dict) and choice.get("type") == "function":
        said = {"type": "tool", "name": (choice.get("function") or {}).get("name")}
    elif choice is not None:
        raise _impossible("this tool_choice", "tool_choice")
    if parallel is False and (said is None or said["type"] != "none"):
        return {**(said or {"type": "auto"}), "disable_parallel_tool_use": True}
    return said


_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def _output(effort: object, wanted: Any, said: JsonObject) -> JsonObject:
    """Say how much the model may think, and the form of its answer."""
    output: JsonObject = {}
    more: JsonObject = {}
    if effort == "none":
        more["thinking"] = {"type": "disabled"}
    elif effort is not None:
        more["thinking"] = {"type": "adaptive"}
        output["effort"] = "low" if effort == "minimal" else effort
    kind = wanted.get("type") if isinstance(wanted, dict) else "text"
    if kind == "json_schema":
        output["format"] = {"type": "json_schema", "schema": (wanted.get("json_schema") or {}).get("schema")}
    elif wanted is not None and kind != "text":
        raise _impossible(f"response_format {kind!r} (unlike json_schema)", "response_format")
    more = {name: value for name, value in more.items() if name not in said}  # its own word wins
    return {**more, "output_config": output} if output else more
