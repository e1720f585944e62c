"""Bedrock Agents, which AWS calls classic (API reference of the runtime for agents, 2023-07-26: InvokeAgent; read 2026-11).

A context is a session, a message an `InvokeAgent`. What the agent hands back to be done (`returnControl`) asks, and the answer is its result, or the
confirmation of its user. Tools are told from traces. There is no way to end an invocation but to leave it.

`url`: `https://bedrock-agent-runtime.REGION.amazonaws.com`. `options`: `alias`, the ARN of the agent's alias; `keys`; `files`, what the agent is to use
files for.
"""

from __future__ import annotations

import codecs
import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from agents.bridges.answering import asked, assent, output, said_to, text_of
from agents.bridges.aws import Source, signer
from agents.bridges.bridge import TOOL, About, Asks, EndsWhenLeft, Piece, Running, Step, Steps, Text, Turn, Working
from agents.bridges.eventstream import Message, messages_of
from agents.bridges.way import MAX_REASON, Way
from registry.errors import HubError, NotSupported, UpstreamInvalid, UpstreamLimited, UpstreamRefused
from registry.judged import JsonObject, encode

SERVICE = "bedrock"
CITATIONS = "urn:hubbub:bedrock:citations"
"""The member of a status's metadata that says what a text rests on."""

_ALIAS = re.compile(r"arn:aws[a-z-]*:bedrock:([a-z0-9-]+):[0-9]+:agent-alias/([0-9a-zA-Z]+)/([0-9a-zA-Z]+)")


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    alias: str
    """The ARN of the agent's alias."""
    keys: Source
    files: Literal["CHAT", "CODE_INTERPRETER"] = "CHAT"
    """What files are for: to be talked about, or to compute with."""


class Agents(EndsWhenLeft):
    """One alias of an agent."""

    def __init__(self, url: str, options: Options) -> None:
        arn = _ALIAS.fullmatch(options.alias)
        if arn is None:
            raise ValueError("alias is not the ARN of an alias of an agent of Bedrock")
        self._sessions = f"{url.rstrip('/')}/agents/{arn[2]}/agentAliases/{arn[3]}/sessions"
        self._files = options.files
        self.credentials = signer(options.keys, region=arn[1], service=SERVICE)

    async def run(self, turn: Turn) -> Steps:
        """Invoke the agent (agents.bridges.bridge.Bridge)."""
        waiting = turn.ref.get("waiting") if turn.is_answer else None
        body: JsonObject = {"enableTrace": True, "streamingConfigurations": {"streamFinalResponse": True}}
        state: JsonObject = {}
        if waiting:
            state["invocationId"] = turn.ref.get("invocation")
            results = [_result(member, said_to(turn, str(number))) for number, member in enumerate(waiting)]
            state["returnControlInvocationResults"] = results
        else:
            body["inputText"] = _text(turn)
        if files := [self._file(turn.way, part) for part in turn.parts if "raw" in part or "url" in part]:
            state["files"] = files
        yield Running({"task": turn.task_id})
        heard = _Heard(turn.way)
        url = f"{self._sessions}/{turn.session_name}/text"
        async with turn.way.send("POST", url, {**body, **({"sessionState": state} if state else {})}) as incoming:
            async for message in messages_of(turn.way, incoming):
                for step in heard.steps(message):
                    yield step
        if heard.waiting:
            yield Running({"task": turn.task_id, "invocation": heard.invocation, "waiting": heard.waiting})
            yield Asks([_question(number, member) for number, member in enumerate(heard.waiting)])
        elif heard.failure is not None and not heard.has_said:
            raise UpstreamInvalid(turn.way.name, heard.failure)

    async def about(self, _way: Way) -> About:
        """The runtime says nothing of an agent."""
        return About(input_modes=("text/plain", "application/json", "*/*"))

    def _file(self, way: Way, part: JsonObject) -> JsonObject:
        """A file for the session (`InputFile`)."""
        url, kind = str(part.get("url") or ""), str(part.get("mediaType") or "application/octet-stream")
        if "raw" in part:
            source: JsonObject = {
                "sourceType": "BYTE_CONTENT",
                "byteContent": {"data": part["raw"], "mediaType": kind},
            }
        elif url.startswith("s3://"):
            source = {"sourceType": "S3", "s3Location": {"uri": url}}
        else:
            raise NotSupported(f"{way.name} takes files whole, or by addresses of S3.")
        name = part.get("filename") or url.rpartition("/")[2] or "file"
        return {"name": name, "source": source, "useCase": self._files}


class _Heard:
    """What the messages of one invocation said."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self.has_said = False
        self.failure: str | None = None
        """Why the agent gave up, as its trace says."""
        self.invocation: str | None = None
        self.waiting: list[JsonObject] = []
        """What it handed back to be done (`InvocationInputMember`)."""

    def steps(self, message: Message) -> Sequence[Step]:
        """What one message says; raises what it says went wrong."""
        kind = message.headers.get(":message-type")
        if kind == "error":
            code = message.headers.get(":error-code", "")
            raise self._failed(code, message.headers.get(":error-message") or code or "its stream ended with an error")
        said = self._way.read(message.payload) if message.payload else {}
        if not isinstance(said, dict):
            raise UpstreamInvalid(self._way.name, "an event of its stream is no object")
        if kind == "exception":
            name = message.headers.get(":exception-type", "")
            raise self._failed(name, str(said.get("message") or name or "its stream ended with an exception"))
        match message.headers.get(":event-type"):
            case "chunk":
                return self._chunk(said)
            case "files":
                self.has_said = True
                return [_piece(file) for file in said.get("files") or () if isinstance(file, dict) and "bytes" in file]
            case "trace":
                return self._trace(said.get("trace"))
            case "returnControl":
                self.invocation = said.get("invocationId")
                self.waiting = [one for one in said.get("invocationInputs") or () if isinstance(one, dict)]
        return []

    def _failed(self, name: str, reason: str) -> HubError:
        reason = reason[:MAX_REASON]
        if name.startswith("throttling"):
            return UpstreamLimited(self._way.name, None, reason)
        if name.startswith("accessDenied"):
            return UpstreamRefused(self._way.name, 403)
        return UpstreamInvalid(self._way.name, reason)

    def _chunk(self, said: JsonObject) -> Sequence[Step]:
        try:
            found = b64decode(str(said.get("bytes") or ""), validate=True)
        except ValueError:
            raise UpstreamInvalid(self._way.name, "a chunk of its stream is not base64") from None
        self.has_said = True
        citations = (said.get("attribution") or {}).get("citations")
        text = Text(self._text.decode(found))
        return [text, Working(metadata={CITATIONS: citations})] if citations else [text]

    def _trace(self, trace: Any) -> Sequence[Step]:
        """The tools that are called; the rest is the agent's own thought."""
        match trace:
            case {"failureTrace": {"failureReason": str(reason)}}:
                self.failure = reason[:MAX_REASON]
            case {"orchestrationTrace": {"invocationInput": dict(called)}}:
                name = _tool(called)
                return [Working(metadata={TOOL: {"name": name}})] if name else []
        return []


def _tool(called: JsonObject) -> str | None:
    """The name of what an agent calls (`InvocationInput`), unless it is handed back."""
    match called:
        case {"actionGroupInvocationInput": {"executionType": "RETURN_CONTROL"}}:
            return None
        case {"actionGroupInvocationInput": dict(group)}:
            return group.get("function") or group.get("apiPath") or group.get("actionGroupName")
        case {"knowledgeBaseLookupInput": {"knowledgeBaseId": str(name)}}:
            return name
        case {"agentCollaboratorInvocationInput": {"agentCollaboratorName": str(name)}}:
            return name
        case {"codeInterpreterInvocationInput": {}}:
            return "code_interpreter"
    return None


def _piece(file: JsonObject) -> Piece:
    name = {"filename": file["name"]} if isinstance(file.get("name"), str) else {}
    return Piece({"raw": file["bytes"], "mediaType": str(file.get("type") or "application/octet-stream"), **name})


def _text(turn: Turn) -> str:
    """What the agent is told: data as JSON."""
    data = [encode(part["data"]).decode() for part in turn.parts if "data" in part]
    return "\n".join(filter(None, [text_of(turn), *data]))


def _handed(member: JsonObject) -> tuple[JsonObject, bool]:
    """What was handed back, and whether it is a function, else an operation of an API."""
    function = member.get("functionInvocationInput")
    return (function, True) if isinstance(function, dict) else (member.get("apiInvocationInput") or {}, False)


def _wants(handed: JsonObject) -> tuple[bool, bool]:
    """Whether a confirmation is wanted, and whether a result."""
    kind = handed.get("actionInvocationType") or "RESULT"
    return "USER_CONFIRMATION" in kind, "RESULT" in kind


def _question(number: int, member: JsonObject) -> JsonObject:
    handed, is_function = _handed(member)
    arguments: JsonObject = {one.get("name"): one.get("value") for one in handed.get("parameters") or ()}
    confirms, _ = _wants(handed)
    more: JsonObject = {"action_group": handed.get("actionGroup")} if confirms or not is_function else {}
    if not is_function:
        more |= {"method": handed.get("httpMethod"), "body": (handed.get("requestBody") or {}).get("content")}
    if confirms:
        more["confirm"] = True
    return asked(str(number), handed.get("function" if is_function else "apiPath"), arguments, **more)


def _result(member: JsonObject, said: Any) -> JsonObject:
    """The caller's answer as what came of it (`InvocationResultMember`)."""
    handed, is_function = _handed(member)
    confirms, wants_result = _wants(handed)
    kept = ("actionGroup", "agentId", *(("function",) if is_function else ("apiPath", "httpMethod")))
    result: JsonObject = {name: handed[name] for name in kept if name in handed}
    is_yes, reason = assent(said)
    if confirms:
        result["confirmationState"] = "CONFIRM" if is_yes else "DENY"
    text = output(said) if wants_result and (is_yes or not confirms) else reason
    if wants_result or not is_yes:
        result["responseBody"] = {"TEXT": {"body": text}} if is_function else {"application/json": {"body": text}}
    return {"functionResult" if is_function else "apiResult": result}
