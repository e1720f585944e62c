"""Any official client through a hub, Python's or JavaScript's in any speech, used in one way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, NamedTuple

from agents.answers import state_name
from agents.speech import SPEECHES, Operation, Speech
from tests.conftest import Hub
from tests.foreign.a2a_js import JsClient, js_client
from tests.peers.a2a_clients import SdkClient, open_client

JS_METHODS: dict[Operation, str] = {
    "SendMessage": "sendMessage",
    "SendStreamingMessage": "sendMessageStream",
    "GetTask": "getTask",
    "CancelTask": "cancelTask",
    "SubscribeToTask": "resubscribeTask",
}

_message_ids = count()


class Kind(NamedTuple):
    """Whose client, in which speech."""

    language: Literal["python", "js"]
    speech: Speech

    def __str__(self) -> str:
        return f"{self.language} {self.speech.binding} {self.speech.version}"


JS = [Kind("js", speech) for speech in SPEECHES]
ALL = [Kind("python", speech) for speech in SPEECHES] + JS


@dataclass(frozen=True)
class Client:
    """A client of either SDK. What it gives is in the JSON of its own version: read it with the functions below."""

    kind: Kind
    _sdk: SdkClient | JsClient

    async def ask(self, operation: Operation, params: dict[str, Any]) -> dict[str, Any]:
        """Do an operation that has one answer; raises what the SDK raises."""
        if isinstance(self._sdk, SdkClient):
            return await self._sdk.ask(operation, params)
        answer: dict[str, Any] = await self._sdk.ask(JS_METHODS[operation], params)
        return answer

    def follow(self, operation: Operation, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Do an operation that is answered by events."""
        if isinstance(self._sdk, SdkClient):
            return self._sdk.follow(operation, params)
        return self._sdk.follow(JS_METHODS[operation], params)

    async def send(self, text: str, **members: Any) -> dict[str, Any]:
        """SendMessage with one text part; returns the task or message."""
        return body(await self.ask("SendMessage", self.said(text, **members)))

    async def stream(self, text: str, **members: Any) -> list[dict[str, Any]]:
        """SendStreamingMessage with one text part, to its end."""
        return [event async for event in self.follow("SendStreamingMessage", self.said(text, **members))]

    def said(self, text: str, *, configuration: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
        """The params of a message with one text part; `members` (taskId, contextId, parts) go into the message."""
        message = {"messageId": f"m-{next(_message_ids)}"}
        if self.kind == Kind("js", Speech(self.kind.speech.binding, "0.3")):
            message |= {"kind": "message", "role": "user", "parts": [{"kind": "text", "text": text}], **members}
        else:
            message |= {"role": "ROLE_USER", "parts": [{"text": text}], **members}
        return {"message": message, **({"configuration": configuration} if configuration else {})}


def body(said: dict[str, Any]) -> dict[str, Any]:
    """The task, message or update in an answer or event of either version."""
    for name in ("task", "message", "statusUpdate", "artifactUpdate"):
        if isinstance(said.get(name), dict) and "status" not in said:
            found: dict[str, Any] = said[name]
            return found
    return said


def state(said: dict[str, Any]) -> str:
    """The state that an answer or event shows, as 1.0 names it without `TASK_STATE_`; empty if it shows none."""
    found = body(said).get("status", {}).get("state", "")
    return state_name(found).removeprefix("TASK_STATE_") if found else ""


def texts(said: dict[str, Any]) -> list[str]:
    """The texts of a task's artifacts, or of an artifact update."""
    found = body(said)
    artifacts = found.get("artifacts") or [found.get("artifact") or {}]
    return [part["text"] for artifact in artifacts for part in artifact.get("parts", [])]


@asynccontextmanager
async def through(hub: Hub, agent: str, kind: Kind) -> AsyncIterator[Client]:
    """Open a client of a kind to an agent of the hub, with a key for it."""
    base, key = f"{hub.url}/a2a/{agent}/", await hub.key(f"agent:{agent}")
    if kind.language == "python":
        async with open_client(base, kind.speech, headers={"authorization": f"Bearer {key}"}) as sdk:
            yield Client(kind, sdk)
        return
    version: Literal["1", "0.3"] = "1" if kind.speech.version == "1.0" else "0.3"
    async with js_client(version, base, key=key, binding=kind.speech.binding) as js:
        yield Client(kind, js)
