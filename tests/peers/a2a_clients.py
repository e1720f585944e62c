"""Clients of the official a2a-sdk, each restricted to one speech; all they take and give is the JSON of A2A 1.0."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from a2a.client import A2ACardResolver, Client, ClientCallContext, ClientConfig, create_client
from a2a.client.errors import A2AClientError
from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.types import a2a_pb2
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP, A2AError
from google.protobuf.json_format import MessageToDict, ParseDict

from agents.speech import Operation, Speech

REQUESTS: dict[Operation, tuple[str, type[Any]]] = {
    "SendMessage": ("send_message", a2a_pb2.SendMessageRequest),
    "SendStreamingMessage": ("send_message", a2a_pb2.SendMessageRequest),
    "GetTask": ("get_task", a2a_pb2.GetTaskRequest),
    "ListTasks": ("list_tasks", a2a_pb2.ListTasksRequest),
    "CancelTask": ("cancel_task", a2a_pb2.CancelTaskRequest),
    "SubscribeToTask": ("subscribe", a2a_pb2.SubscribeToTaskRequest),
    "CreateTaskPushNotificationConfig": (
        "create_task_push_notification_config",
        a2a_pb2.TaskPushNotificationConfig,
    ),
    "GetTaskPushNotificationConfig": (
        "get_task_push_notification_config",
        a2a_pb2.GetTaskPushNotificationConfigRequest,
    ),
    "ListTaskPushNotificationConfigs": (
        "list_task_push_notification_configs",
        a2a_pb2.ListTaskPushNotificationConfigsRequest,
    ),
    "DeleteTaskPushNotificationConfig": (
        "delete_task_push_notification_config",
        a2a_pb2.DeleteTaskPushNotificationConfigRequest,
    ),
    "GetExtendedAgentCard": ("get_extended_agent_card", a2a_pb2.GetExtendedAgentCardRequest),
}
"""The SDK's method and request of each operation; its configuration decides whether a message is sent streaming."""

LACKING: dict[Speech, frozenset[Operation]] = {
    Speech("JSONRPC", "0.3"): frozenset({"ListTasks"}),
    Speech("HTTP+JSON", "0.3"): frozenset(
        {"ListTasks", "ListTaskPushNotificationConfigs", "DeleteTaskPushNotificationConfig"}
    ),
}
"""What a client of this speech cannot say: 0.3 has no ListTasks, and the SDK's REST client of 0.3 lacks two more."""


class Refused(Exception):
    """What the SDK raised. `code` is the JSON-RPC code of the error; None where the SDK lost it."""

    def __init__(self, error: A2AError | A2AClientError) -> None:
        super().__init__(repr(error))
        self.name = type(error).__name__
        self.code = JSON_RPC_ERROR_CODE_MAP.get(type(error))
        self.message = str(error)
        self.data = getattr(error, "data", None)


@dataclass(frozen=True)
class SdkClient:
    """A client that speaks one speech. Params and results are those of A2A 1.0, whatever goes over the wire."""

    speech: Speech
    card: dict[str, Any]
    """As the SDK understood it, with all its interfaces."""
    _unary: Client
    _streaming: Client
    _parameters: Mapping[str, str]

    async def ask(
        self, operation: Operation, params: dict[str, Any] | None = None, *, extensions: list[str] | None = None
    ) -> dict[str, Any]:
        """Do an operation that has one answer. Raises Refused."""
        name, request = self._request(operation, params)
        answer = getattr(self._unary, name)(request, context=self._context(extensions))
        try:
            if operation == "SendMessage":
                async with aclosing(answer):
                    return MessageToDict(await anext(answer))
            done = await answer
        except (A2AError, A2AClientError) as error:
            raise Refused(error) from error
        return MessageToDict(done) if done is not None else {}

    async def follow(
        self, operation: Operation, params: dict[str, Any], *, extensions: list[str] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Do an operation that is answered by events (SendStreamingMessage, SubscribeToTask). Raises Refused.

        To leave early, close it: `async with aclosing(client.follow(...)) as events:`.
        """
        name, request = self._request(operation, params)
        events = getattr(self._streaming, name)(request, context=self._context(extensions))
        try:
            async with aclosing(events):
                async for event in events:
                    yield MessageToDict(event)
        except (A2AError, A2AClientError) as error:
            raise Refused(error) from error

    async def send(self, text: str, **options: Any) -> dict[str, Any]:
        """SendMessage with one text part; see `message` for the options."""
        return await self.ask("SendMessage", message(text, **options))

    async def stream(self, text: str, **options: Any) -> list[dict[str, Any]]:
        """SendStreamingMessage with one text part, to its end."""
        return [event async for event in self.follow("SendStreamingMessage", message(text, **options))]

    def _request(self, operation: Operation, params: dict[str, Any] | None) -> tuple[str, Any]:
        name, kind = REQUESTS[operation]
        return name, ParseDict(params or {}, kind())

    def _context(self, extensions: list[str] | None) -> ClientCallContext:
        parameters = dict(self._parameters)
        if extensions:
            parameters = ServiceParametersFactory.create_from(parameters, [with_a2a_extensions(extensions)])
        return ClientCallContext(timeout=30, service_parameters=parameters)


def message(text: str, *, message_id: str = "m-1", configuration: Any = None, **members: Any) -> dict[str, Any]:
    """The params of SendMessage with one text part; other members (taskId, contextId, parts) go into the message."""
    said = {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": text}], **members}
    return {"message": said, **({"configuration": configuration} if configuration else {})}


@asynccontextmanager
async def open_client(
    base_url: str, speech: Speech, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[SdkClient]:
    """Fetch the card under `base_url` and open a client that uses only its interface of this speech.

    `headers` go with the card's request and with every call, as metadata over gRPC. The card must offer the speech.
    """
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(headers=headers, timeout=30, trust_env=False))
        card = await A2ACardResolver(http, base_url).get_agent_card()
        document = MessageToDict(card)
        kept = [one for one in card.supported_interfaces if _speaks(one, speech)]
        assert kept, f"the card does not offer {speech}: {document}"
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept[:1])
        unary, streaming = [
            await stack.enter_async_context(
                await create_client(
                    card,
                    ClientConfig(
                        streaming=wanted,
                        httpx_client=http,
                        grpc_channel_factory=grpc.aio.insecure_channel,
                        supported_protocol_bindings=[speech.binding],
                    ),
                )
            )
            for wanted in (False, True)
        ]
        metadata = {name.lower(): value for name, value in (headers or {}).items()} if speech.binding == "GRPC" else {}
        yield SdkClient(speech, document, unary, streaming, metadata)


def _speaks(interface: a2a_pb2.AgentInterface, speech: Speech) -> bool:
    version = ".".join(interface.protocol_version.split(".")[:2])
    return Speech(interface.protocol_binding, version) == speech
