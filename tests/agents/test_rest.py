"""A2A over HTTP+JSON: what the official SDK's client sends is read, what is written its server understands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast, get_args
from urllib.parse import quote, urlsplit

import httpx
import pytest
from a2a.client.errors import A2AClientError
from a2a.client.transports.rest import RestTransport
from a2a.compat.v0_3.rest_transport import CompatRestTransport
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.server.routes import create_rest_routes
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, a2a_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from agents import rest
from agents.faults import Fault
from agents.rest import RestAsk
from agents.speech import STREAMING, Operation, Version
from registry.errors import HttpMethodRefused, InvalidParams, InvalidRequest, NotFound, ParseFailed
from tests.conftest import served

BASE = "http://agent/a2a"
MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
OLD_MESSAGE = {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "hi"}]}
CONFIG = {"id": "c", "taskId": "t", "url": "https://client/", "token": "s"}
OLD_CONFIG = {"id": "c", "url": "https://client/", "token": "s"}
NAME, CONFIG_NAME = "tasks/t", "tasks/t/pushNotificationConfigs/c"

ASKS: list[tuple[Version, Operation, dict[str, Any]]] = [
    ("1.0", "SendMessage", {"message": {**MESSAGE, "taskId": "t", "contextId": "x", "referenceTaskIds": ["r"]}}),
    ("1.0", "SendStreamingMessage", {"message": MESSAGE, "configuration": {"historyLength": 2}, "metadata": {"a": 1}}),
    ("1.0", "GetTask", {"id": "t", "historyLength": 1}),
    (
        "1.0",
        "ListTasks",
        {
            "contextId": "x y&z",
            "status": "TASK_STATE_WORKING",
            "pageSize": 1,
            "pageToken": "a+/=",
            "historyLength": 1,
            "statusTimestampAfter": "2026-01-01T00:00:00Z",
            "includeArtifacts": True,
        },
    ),
    ("1.0", "ListTasks", {"includeArtifacts": False, "pageSize": 100}),
    ("1.0", "CancelTask", {"id": "t", "metadata": {"why": ["so", 1]}}),
    ("1.0", "SubscribeToTask", {"id": "t"}),
    ("1.0", "CreateTaskPushNotificationConfig", {**CONFIG, "authentication": {"scheme": "Bearer", "credentials": "k"}}),
    ("1.0", "GetTaskPushNotificationConfig", {"taskId": "t", "id": "c"}),
    ("1.0", "ListTaskPushNotificationConfigs", {"taskId": "t", "pageSize": 1, "pageToken": "p"}),
    ("1.0", "DeleteTaskPushNotificationConfig", {"taskId": "t", "id": "c"}),
    ("1.0", "GetExtendedAgentCard", {}),
    ("0.3", "SendMessage", {"message": {**OLD_MESSAGE, "taskId": "t", "contextId": "x"}}),
    (
        "0.3",
        "SendStreamingMessage",
        {"message": OLD_MESSAGE, "configuration": {"pushNotification": OLD_CONFIG, "blocking": True}},
    ),
    ("0.3", "GetTask", {"name": NAME, "historyLength": 1}),
    ("0.3", "CancelTask", {"name": NAME}),
    ("0.3", "SubscribeToTask", {"name": NAME}),
    (
        "0.3",
        "CreateTaskPushNotificationConfig",
        {"parent": NAME, "configId": "c", "config": {"pushNotificationConfig": OLD_CONFIG}},
    ),
    ("0.3", "GetTaskPushNotificationConfig", {"name": CONFIG_NAME}),
    ("0.3", "ListTaskPushNotificationConfigs", {"parent": NAME}),
    ("0.3", "DeleteTaskPushNotificationConfig", {"name": CONFIG_NAME}),
    ("0.3", "GetExtendedAgentCard", {}),
]
NAMES = [f"{version}-{operation}" for version, operation, _ in ASKS]


def read(method: str, path: str, body: Any = None, query: str = "") -> RestAsk:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return rest.read_request(method, path, query.encode(), data)._replace(raw=None)


def reread(version: Version, operation: Operation, params: dict[str, Any]) -> RestAsk:
    """Read as a client's request what is written for an agent."""
    written = rest.write_request(BASE, version, operation, params, None)
    parts = urlsplit(written.url)
    path = parts.path.removeprefix("/a2a")
    return rest.read_request(written.method, path, parts.query.encode(), written.body or b"")._replace(raw=None)


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "operation", "params"), ASKS, ids=NAMES)
def test_what_is_written_is_read(version: Version, operation: Operation, params: dict[str, Any]) -> None:
    assert reread(version, operation, params) == RestAsk(version, operation, params)


def test_every_operation_is_covered() -> None:
    assert {operation for version, operation, _ in ASKS if version == "1.0"} == set(get_args(Operation))


IDS = st.one_of(
    st.text(min_size=1, max_size=30),
    st.text("%:/?#&=+.;@\\ \"'{}~2Fe\n\0é", min_size=1, max_size=12),
    st.sampled_from(
        ["a:b", "t:cancel", "t:subscribe", ":cancel", "a/b", "%2e%2e", "%252F", "...", "message:send", "v1"]
    ),
).filter(lambda one: one not in {".", ".."})


@given(task=IDS, config=IDS)
def test_awkward_ids_survive_every_path_of_1_0(task: str, config: str) -> None:
    for operation in ("GetTask", "CancelTask", "SubscribeToTask"):
        ask = RestAsk("1.0", cast("Operation", operation), {"id": task})
        assert reread(*ask[:3]) == ask
    for operation in ("GetTaskPushNotificationConfig", "DeleteTaskPushNotificationConfig"):
        ask = RestAsk("1.0", cast("Operation", operation), {"taskId": task, "id": config})
        assert reread(*ask[:3]) == ask
    ask = RestAsk("1.0", "CreateTaskPushNotificationConfig", {**CONFIG, "taskId": task, "id": config})
    assert reread(*ask[:3]) == ask


@given(task=IDS.filter(lambda one: "/" not in one), config=IDS.filter(lambda one: "/" not in one))
def test_awkward_ids_survive_every_path_of_0_3(task: str, config: str) -> None:
    name = f"tasks/{task}"
    for operation in ("GetTask", "CancelTask", "SubscribeToTask"):
        ask = RestAsk("0.3", cast("Operation", operation), {"name": name})
        assert reread(*ask[:3]) == ask
    for operation in ("GetTaskPushNotificationConfig", "DeleteTaskPushNotificationConfig"):
        ask = RestAsk("0.3", cast("Operation", operation), {"name": f"{name}/pushNotificationConfigs/{config}"})
        assert reread(*ask[:3]) == ask
    inner = {"pushNotificationConfig": {**OLD_CONFIG, "id": config}}
    ask = RestAsk("0.3", "CreateTaskPushNotificationConfig", {"parent": name, "configId": config, "config": inner})
    assert reread(*ask[:3]) == ask


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(value=JSON)
def test_what_decides_nothing_goes_on_as_it_came(value: Any) -> None:
    message = {"messageId": "m", "metadata": {"a": value}, "parts": [{"data": value}]}
    ask = RestAsk("1.0", "SendMessage", {"message": message, "metadata": {"b": value}})
    assert reread(*ask[:3]) == ask
    old = {"messageId": "m", "metadata": {"a": value}, "content": [{"data": {"data": {"some_name": value}}}]}
    ask = RestAsk("0.3", "SendMessage", {"message": old, "metadata": {"b_c": value}})
    assert reread(*ask[:3]) == ask


# --- the SDK's client -------------------------------------------------------------------------------------------------


class Recorder:
    """A server that reads every request, and answers with an empty object."""

    def __init__(self) -> None:
        self.asks: list[RestAsk] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        path = scope["raw_path"].decode("ascii")
        self.asks.append(rest.read_request(scope["method"], path, scope["query_string"], body))
        is_stream = self.asks[-1].operation in STREAMING
        kind = b"text/event-stream" if is_stream else rest.MEDIA_TYPES[self.asks[-1].version]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": b"" if is_stream else b"{}"})


REQUESTS: dict[Operation, tuple[str, Any]] = {
    "SendMessage": ("send_message", a2a_pb2.SendMessageRequest),
    "SendStreamingMessage": ("send_message_streaming", a2a_pb2.SendMessageRequest),
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


async def ask_by_sdk(version: Version, operation: Operation, params: dict[str, Any]) -> tuple[RestAsk, bytes]:
    """Send the canonical params with the SDK's client and give what arrived."""
    recorder = Recorder()
    card = AgentCard(capabilities=AgentCapabilities(extended_agent_card=True))
    async with served(recorder) as url, httpx.AsyncClient(trust_env=False) as http:
        client = (RestTransport if version == "1.0" else CompatRestTransport)(http, card, f"{url}/")
        name, kind = REQUESTS[operation]
        answer = getattr(client, name)(ParseDict(params, kind()))
        if operation in STREAMING:
            assert [event async for event in answer] == []
        else:
            try:
                await answer
            except Exception as error:  # of 0.3, an empty object is no result
                assert version == "0.3", error  # noqa: PT017
    return recorder.asks[0], recorder.bodies[0]


@pytest.mark.parametrize(
    ("operation", "params"), [(operation, params) for version, operation, params in ASKS if version == "1.0"]
)
async def test_the_sdks_client_of_1_0_is_understood(operation: Operation, params: dict[str, Any]) -> None:
    ask, _ = await ask_by_sdk("1.0", operation, params)
    if operation == "CancelTask":
        params = {"id": "t", "metadata": {"why": ["so", 1.0]}}  # the SDK holds numbers as floats
    assert ask._replace(raw=None) == RestAsk("1.0", operation, params)


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        (
            "SendMessage",
            {
                "message": {**MESSAGE, "taskId": "t", "contextId": "x", "metadata": {"snake_case": "stays"}},
                "configuration": {"acceptedOutputModes": ["text/plain"], "taskPushNotificationConfig": OLD_CONFIG},
            },
            {
                "message": {**OLD_MESSAGE, "taskId": "t", "contextId": "x", "metadata": {"snake_case": "stays"}},
                "configuration": {
                    "acceptedOutputModes": ["text/plain"],
                    "pushNotification": OLD_CONFIG,
                    "blocking": True,
                },
            },
        ),
        (
            "SendStreamingMessage",
            {"message": {**MESSAGE, "parts": [{"data": {"some_name": 1}}, {"url": "u", "mediaType": "a/b"}]}},
            {
                "message": {
                    **OLD_MESSAGE,
                    "content": [
                        {"data": {"data": {"some_name": 1.0}}},
                        {"file": {"fileWithUri": "u", "mimeType": "a/b"}},
                    ],
                },
                "configuration": {},
            },
        ),
        ("GetTask", {"id": "t", "historyLength": 3}, {"name": NAME, "historyLength": 3}),
        ("CancelTask", {"id": "t"}, {"name": NAME}),
        ("SubscribeToTask", {"id": "t"}, {"name": NAME}),
        (
            "CreateTaskPushNotificationConfig",
            CONFIG,
            {"parent": NAME, "configId": "c", "config": {"pushNotificationConfig": OLD_CONFIG}},
        ),
        ("GetTaskPushNotificationConfig", {"taskId": "t", "id": "c"}, {"name": CONFIG_NAME}),
        ("GetExtendedAgentCard", {}, {}),
    ],
)
async def test_the_sdks_client_of_0_3_is_understood(
    operation: Operation, params: dict[str, Any], expected: dict[str, Any]
) -> None:
    ask, body = await ask_by_sdk("0.3", operation, params)
    if operation.startswith("Send"):
        assert b'"request"' in body
    assert ask._replace(raw=None) == RestAsk("0.3", operation, expected)


def test_the_javascript_client_of_0_3_is_understood() -> None:
    """Its bodies as `@a2a-js/sdk` 0.3.14 writes them."""
    body = {"name": CONFIG_NAME, "pushNotificationConfig": OLD_CONFIG}
    found = read("POST", "/v1/tasks/t/pushNotificationConfigs", body)
    assert found.params == {"parent": NAME, "config": {"pushNotificationConfig": OLD_CONFIG}}
    assert read("POST", "/v1/tasks/t:cancel") == RestAsk("0.3", "CancelTask", {"name": NAME})
    found = read("POST", "/v1/tasks/thread%3Arun:subscribe")
    assert found == RestAsk("0.3", "SubscribeToTask", {"name": "tasks/thread:run"})


# --- the SDK's server -------------------------------------------------------------------------------------------------


class Noting(RequestHandler):
    """The SDK's handler of requests, which only notes them. The SDK's own routes and parsers stand before it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], str]] = []

    def note(self, operation: Operation, params: Any, context: ServerCallContext) -> None:
        self.calls.append((operation, MessageToDict(params), context.tenant))

    async def on_message_send(self, params: Any, context: ServerCallContext) -> Any:
        self.note("SendMessage", params, context)
        return a2a_pb2.Message(message_id="a", role=a2a_pb2.ROLE_AGENT)

    async def on_message_send_stream(self, params: Any, context: ServerCallContext) -> AsyncIterator[Any]:
        self.note("SendStreamingMessage", params, context)
        yield a2a_pb2.Message(message_id="a", role=a2a_pb2.ROLE_AGENT)

    async def on_get_task(self, params: Any, context: ServerCallContext) -> Any:
        self.note("GetTask", params, context)
        return a2a_pb2.Task(id=params.id)

    async def on_list_tasks(self, params: Any, context: ServerCallContext) -> Any:
        self.note("ListTasks", params, context)
        return a2a_pb2.ListTasksResponse()

    async def on_cancel_task(self, params: Any, context: ServerCallContext) -> Any:
        self.note("CancelTask", params, context)
        return a2a_pb2.Task(id=params.id)

    async def on_subscribe_to_task(self, params: Any, context: ServerCallContext) -> AsyncIterator[Any]:
        self.note("SubscribeToTask", params, context)
        yield a2a_pb2.Task(id=params.id)

    async def on_create_task_push_notification_config(self, params: Any, context: ServerCallContext) -> Any:
        self.note("CreateTaskPushNotificationConfig", params, context)
        return params

    async def on_get_task_push_notification_config(self, params: Any, context: ServerCallContext) -> Any:
        self.note("GetTaskPushNotificationConfig", params, context)
        return a2a_pb2.TaskPushNotificationConfig(id=params.id, task_id=params.task_id, url="https://client/")

    async def on_list_task_push_notification_configs(self, params: Any, context: ServerCallContext) -> Any:
        self.note("ListTaskPushNotificationConfigs", params, context)
        return a2a_pb2.ListTaskPushNotificationConfigsResponse()

    async def on_delete_task_push_notification_config(self, params: Any, context: ServerCallContext) -> None:
        self.note("DeleteTaskPushNotificationConfig", params, context)

    async def on_get_extended_agent_card(self, params: Any, context: ServerCallContext) -> Any:
        self.note("GetExtendedAgentCard", params, context)
        return AgentCard(
            name="a",
            description="a",
            version="1",
            supported_interfaces=[
                AgentInterface(url="http://a", protocol_binding="HTTP+JSON", protocol_version=version)
                for version in ("1.0", "0.3")
            ],
            capabilities=AgentCapabilities(),
            default_input_modes=["text/plain"],
            default_output_modes=["text/plain"],
            skills=[AgentSkill(id="a", name="a", description="a", tags=["a"])],
        )


async def ask_sdk(written: rest.Written, version: Version, http: httpx.AsyncClient) -> httpx.Response:
    headers = {"content-type": "application/json", "a2a-version": version}
    return await http.request(written.method, written.url, content=written.body, headers=headers)


@pytest.mark.parametrize("compat", [False, True])
async def test_the_sdks_server_of_1_0_understands_every_operation(compat: bool) -> None:
    handler = Noting()
    app = Starlette(routes=create_rest_routes(handler, enable_v0_3_compat=compat))
    async with served(app) as url, httpx.AsyncClient(trust_env=False) as http:
        for version, operation, params in ASKS:
            if version == "0.3":
                continue
            answer = await ask_sdk(rest.write_request(url, "1.0", operation, params, None), "1.0", http)
            assert answer.status_code == 200, answer.text
            seen_operation, seen, tenant = handler.calls.pop()
            assert (seen_operation, tenant) == (operation, "")
            if operation == "CancelTask":  # the SDK's server drops the metadata
                params = {"id": "t"}
            assert seen == MessageToDict(ParseDict(params, REQUESTS[operation][1]()))


async def test_the_tenant_of_an_agents_card_reaches_it() -> None:
    handler = Noting()
    async with (
        served(Starlette(routes=create_rest_routes(handler))) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for version, operation, params in ASKS:
            if version == "1.0":
                written = rest.write_request(f"{url}/", "1.0", operation, params, "a b")
                assert (await ask_sdk(written, "1.0", http)).status_code == 200
                assert handler.calls.pop()[::2] == (operation, "a b")


async def test_the_sdks_server_of_0_3_understands_every_operation_it_has() -> None:
    handler = Noting()
    app = Starlette(routes=create_rest_routes(handler, enable_v0_3_compat=True))
    async with served(app) as url, httpx.AsyncClient(trust_env=False) as http:
        for version, operation, params in ASKS:
            if version == "1.0" or operation == "DeleteTaskPushNotificationConfig":
                continue
            answer = await ask_sdk(rest.write_request(url, "0.3", operation, params, "ignored"), "0.3", http)
            assert answer.status_code == 200, answer.text
            seen_operation, seen, _ = handler.calls.pop()
            assert seen_operation == operation
            match operation:
                case "GetTask":
                    assert seen == {"id": "t", "historyLength": 1}
                case "CancelTask" | "SubscribeToTask":
                    assert seen == {"id": "t"}
                case "GetTaskPushNotificationConfig":
                    assert seen == {"taskId": "t", "id": "c"}
                case "CreateTaskPushNotificationConfig":
                    assert seen == CONFIG
                case "SendMessage":
                    assert (seen["message"]["taskId"], seen["message"]["parts"]) == ("t", [{"text": "hi"}])
                case "SendStreamingMessage":
                    pushed = seen["configuration"]["taskPushNotificationConfig"]
                    assert (pushed["url"], pushed["token"]) == ("https://client/", "s")


@pytest.mark.parametrize("task", ["thread:run", "a b", "é", "100%", "a?b#c", "t:cancel", "%2e%2e", "a;b=c&d"])
async def test_awkward_ids_reach_the_sdks_server(task: str) -> None:
    handler = Noting()
    app = Starlette(routes=create_rest_routes(handler, enable_v0_3_compat=True))
    async with served(app) as url, httpx.AsyncClient(trust_env=False) as http:
        for operation in ("GetTask", "CancelTask", "SubscribeToTask"):
            written = rest.write_request(url, "1.0", cast("Operation", operation), {"id": task}, None)
            assert (await ask_sdk(written, "1.0", http)).status_code == 200
            assert handler.calls.pop()[:2] == (operation, {"id": task})
        written = rest.write_request(url, "0.3", "GetTask", {"name": f"tasks/{task}"}, None)
        assert (await ask_sdk(written, "0.3", http)).status_code == 200
        assert handler.calls.pop()[1] == {"id": task}


def test_the_base_urls_own_query_stays() -> None:
    written = rest.write_request("http://a/x/?key=1", "1.0", "GetTask", {"id": "t", "historyLength": 0}, None)
    assert written.url == "http://a/x/tasks/t?key=1&historyLength=0"
    written = rest.write_request("http://a?key=1", "1.0", "SendMessage", {"message": {}}, None)
    assert written.url == "http://a/message:send?key=1"


# --- attacks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v2/tasks/t",
        "/tasks/",
        "/tasks//",
        "/tasks/:cancel",
        "/tasks/:subscribe",
        "/tasks/.",
        "/tasks/..",
        "/tasks/%2e%2e",
        "/tasks/%2E.",
        "/tasks/..:cancel",
        "/tasks/t/..",
        "/tasks/../tasks/t",
        "/tasks/a/b",
        "/tasks/t/",
        "/tasks//pushNotificationConfigs",
        "/tasks/../pushNotificationConfigs",
        "/tasks/t/pushNotificationConfigs/",
        "/tasks/t/pushNotificationConfigs/%2e%2e",
        "/tasks/t/pushNotificationConfigs/c/d",
        "/tasks/t/pushnotificationconfigs",
        "/Tasks/t",
        "/tasks/{}",
        "/tasks{}",
        "/message%3Asend",
        "/message:send/",
        "/acme/message:send",
        "/acme/tasks/t",
        "/card",
        "/v1/extendedAgentCard",
        "/v1/v1/tasks/t",
        "/v1/tasks/a%2Fb",
        "/v1/tasks/a%2fpushNotificationConfigs%2Fb",
        "/tasks/%ff",
        "/tasks/é",
        "tasks/t",
    ],
)
def test_no_other_path_is_served(path: str) -> None:
    if path == "/tasks/{}":  # an id like any other
        assert read("GET", path).params == {"id": "{}"}
        return
    for method in ("GET", "POST", "DELETE"):
        with pytest.raises(NotFound):
            read(method, path, {})


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("/tasks/%252e%252e", "%2e%2e"),
        ("/tasks/a%2F..%2Fb", "a/../b"),
        ("/tasks/t%3Acancel", "t:cancel"),
        ("/tasks/%zz", "%zz"),
        ("/tasks/a+b", "a+b"),
        ("/tasks/tasks", "tasks"),
        ("/tasks/v1", "v1"),
        ("/tasks/a:b", "a:b"),
        ("/tasks/message:send", "message:send"),
    ],
)
def test_an_id_is_decoded_once_and_after_the_path_was_split(path: str, task: str) -> None:
    assert read("GET", path).params == {"id": task}
    written = rest.write_request(BASE, "1.0", "GetTask", {"id": task}, None)
    assert written.url == f"{BASE}/tasks/{quote(task, safe='')}"


def test_only_the_last_verb_counts() -> None:
    assert read("POST", "/tasks/t:cancel:cancel") == RestAsk("1.0", "CancelTask", {"id": "t:cancel"})
    assert read("GET", "/tasks/t:cancel:subscribe") == RestAsk("1.0", "SubscribeToTask", {"id": "t:cancel"})


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/message:send", "POST"),
        ("GET", "/tasks/t:cancel", "POST"),
        ("DELETE", "/tasks/t:subscribe", "GET, POST"),
        ("PUT", "/v1/tasks/t:subscribe", "GET, POST"),
        ("POST", "/tasks/t", "GET"),
        ("POST", "/tasks", "GET"),
        ("DELETE", "/tasks/t/pushNotificationConfigs", "GET, POST"),
        ("HEAD", "/tasks/t/pushNotificationConfigs/c", "DELETE, GET"),
        ("POST", "/extendedAgentCard", "GET"),
        ("get", "/tasks/t", "GET"),
    ],
)
def test_another_http_method_is_told_which_are_served(method: str, path: str, allow: str) -> None:
    with pytest.raises(HttpMethodRefused) as raised:
        read(method, path)
    assert raised.value.allow == allow


def test_subscribing_works_by_get_and_by_post() -> None:
    for method in ("GET", "POST"):
        assert read(method, "/tasks/t:subscribe") == RestAsk("1.0", "SubscribeToTask", {"id": "t"})
        assert read(method, "/v1/tasks/t:subscribe") == RestAsk("0.3", "SubscribeToTask", {"name": NAME})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/tasks/{'i' * 600}", None),
        ("POST", f"/tasks/{'i' * 600}:cancel", {}),
        ("GET", f"/v1/tasks/{'i' * 600}", None),
        ("GET", f"/tasks/t/pushNotificationConfigs/{'i' * 600}", None),
        ("POST", "/message:send", {"message": {"taskId": "i" * 600}}),
        ("POST", "/v1/message:send", {"request": {"context_id": "i" * 600}}),
        ("POST", "/tasks/t/pushNotificationConfigs", {"id": "i" * 600, "url": "u"}),
        ("POST", "/message:send", {"message": {"referenceTaskIds": ["r"] * 101}}),
    ],
)
def test_ids_end_somewhere(method: str, path: str, body: Any) -> None:
    with pytest.raises(InvalidParams):
        read(method, path, body)


@pytest.mark.parametrize(
    "query",
    [
        "historyLength=1&historyLength=1",
        "historyLength=1&%68istoryLength=2",
        "history_length=1",
        "HistoryLength=1",
        "historyLength=",
        "historyLength=1.0",
        "historyLength=+1",
        "historyLength=1_0",
        "historyLength=%D9%A1",
        "historyLength=2147483648",
        "historyLength=" + "9" * 5000,
        "tenant=acme",
        "tenant=&tenant=",
        "Tenant=acme",
        "historyLength=%ff",
        "\xff=1",
        "&".join(f"a{number}=1" for number in range(200)),
    ],
)
def test_a_query_that_could_be_read_otherwise_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest):
        rest.read_request("GET", "/tasks/t", query.encode("latin-1"), b"")


def test_a_query_is_typed_and_what_is_not_known_goes_nowhere() -> None:
    found = read("GET", "/tasks", query="contextId=&includeArtifacts=TRUE&pageSize=-5&A2A-Version=1.0&x=1&x=2&tenant=")
    assert found.params == {"includeArtifacts": True, "pageSize": -5}
    with pytest.raises(InvalidParams, match="true or false"):
        read("GET", "/tasks", query="includeArtifacts=1")
    assert read("GET", "/tasks/t", query="contextId=x&pageSize=1").params == {"id": "t"}


M = '"messageId":"m"'


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"message":null}',
        '{"message":[]}',
        '{"message":{M},"message":{M}}',
        '{"message":{M,"taskId":"a","taskId":"b"}}',
        '{"message":{M,"taskId":"a","task\\u0049d":"b"}}',
        '{"message":{M,"contextId":"a","contextId":"a"}}',
        '{"message":{M,"task_id":"a"}}',
        '{"message":{M,"TaskId":"a"}}',
        '{"message":{M,"taskId":5}}',
        '{"message":{M,"taskId":["a"]}}',
        '{"message":{M,"reference_task_ids":["a"]}}',
        '{"message":{M,"referenceTaskIds":"a"}}',
        '{"message":{M,"referenceTaskIds":[""]}}',
        '{"message":{M,"referenceTaskIds":[1]}}',
        '{"Message":{M}}',
        '{"message":{M},"tenant":"acme"}',
        '{"message":{M},"Tenant":""}',
        '{"message":{M},"configuration":[]}',
        '{"message":{M},"taskPushNotificationConfig":{"url":"u"}}',
        '{"message":{M},"pushNotificationConfig":{"url":"u"}}',
        '{"message":{M},"configuration":{"pushNotificationConfig":{"url":"u"}}}',
        '{"message":{M},"configuration":{"pushNotification":{"url":"u"}}}',
        '{"message":{M},"configuration":{"task_push_notification_config":{"url":"u"}}}',
        '{"message":{M},"configuration":{"taskPushNotificationConfig":{}}}',
        '{"message":{M},"configuration":{"taskPushNotificationConfig":{"url":5}}}',
        '{"message":{M},"configuration":{"taskPushNotificationConfig":{"URL":"u"}}}',
        '{"message":{M},"configuration":{"taskPushNotificationConfig":{"url":"u","tenant":"acme"}}}',
        '{"message":{M},"configuration":{"taskPushNotificationConfig":{"url":"u","taskId":"b"}}}',
        '{"message":{M,"taskId":"a"},"configuration":{"taskPushNotificationConfig":{"url":"u","taskId":"b"}}}',
        '{"message":{M},"configuration":{"taskPushNotificationConfig":{"url":"u","authentication":"x"}}}',
        '{"message":{M},"configuration":{"taskPushNotificationConfig":{"url":"u","token":1}}}',
    ],
)
def test_a_message_that_could_be_read_otherwise_is_refused(body: str) -> None:
    with pytest.raises(InvalidRequest):
        read("POST", "/message:send", body.replace("{M", "{" + M).encode())


@pytest.mark.parametrize(
    "body",
    [
        '{"message":{},"request":{}}',
        '{"request":{},"request":{}}',
        '{"request":{"task_id":"a","taskId":"b"}}',
        '{"request":{"task_id":"a","task_id":"b"}}',
        '{"request":{"task__id":"a"}}',
        '{"request":{"_task_id":"a"}}',
        '{"request":{"Task_Id":"a"}}',
        '{"request":{"content":[{"file":{"mime_type":"a","mimeType":"b"}}]}}',
        '{"request":{},"configuration":{"taskPushNotificationConfig":{"url":"u"}}}',
        '{"request":{},"configuration":{"push_notification_config":{"url":"u"}}}',
        '{"request":{},"configuration":{"push_notification":{"url":"u"},"pushNotification":{"url":"v"}}}',
    ],
)
def test_a_message_of_0_3_that_could_be_read_otherwise_is_refused(body: str) -> None:
    with pytest.raises(InvalidRequest):
        read("POST", "/v1/message:send", body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"message":{"x":1e999}}',
        b'{"message":{"x":' + b"9" * 5000 + b"}}",
        b'{"message":{"x":"\xff"}}',
        b'{"message":' + b'{"x":' * 300 + b"1" + b"}" * 301,
        b'{"message":{"x":"\\ud800"}}',
    ],
)
def test_a_body_that_parsers_differ_about_is_refused(body: bytes) -> None:
    for path in ("/message:send", "/v1/message:stream"):
        with pytest.raises(ParseFailed):
            read("POST", path, body)


def test_a_body_that_is_no_object_is_refused() -> None:
    for path in ("/message:send", "/tasks/t:cancel", "/tasks/t/pushNotificationConfigs", "/v1/message:send"):
        with pytest.raises(InvalidRequest):
            read("POST", path, [1])


def test_empty_members_are_absent_ones() -> None:
    body = {
        "message": {**MESSAGE, "taskId": "", "contextId": None, "referenceTaskIds": []},
        "configuration": None,
        "tenant": "",
        "pushNotification": None,
    }
    assert read("POST", "/message:send", body).params == {"message": MESSAGE}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/message:send", b'{ "x": 1e0, "message": {"taskId": "t", "y": [1.50]}, "configuration": {"z": 0} }'),
        ("/v1/message:send", b'{"request": {"task_id": "t", "content": [{"text": "hi"}], "y": 1e2}}'),
        ("/v1/message:stream", b'{"message": {"taskId": "t", "snake_case": 1e2}}'),
        ("/tasks/t:cancel", b'{"id": "t", "metadata": {"y": 1e0}, "x": 1}'),
        ("/v1/tasks/t:cancel", b'{ "name": "tasks/t", "x": 1e0 }'),
    ],
)
def test_a_body_of_which_nothing_must_be_taken_goes_on_byte_for_byte(path: str, body: bytes) -> None:
    assert rest.read_request("POST", path, b"", body).raw == body


@pytest.mark.parametrize(
    ("path", "body", "raw"),
    [
        ("/message:send", '{"message": {"taskId": "", "y": 1e0}}', '{"message":{"y":1e0}}'),
        ("/message:send", '{"message": {"y": 1e0}, "tenant": ""}', '{"message":{"y":1e0}}'),
        ("/message:send", '{"message": {"task\\u0049d": "t", "y": 1e0}}', '{"message":{"taskId":"t","y":1e0}}'),
        (
            "/message:send",
            '{"message": {}, "configuration": {"taskPushNotificationConfig": {"url": "u"}, "y": 1e0}}',
            '{"message":{},"configuration":{"y":1e0}}',
        ),
        (
            "/v1/message:send",
            '{"request": {"context_id": "c"}, "configuration": {"push_notification": {"url": "u"}, "y": 1e0}}',
            '{"configuration":{"y":1e0},"message":{"contextId":"c"}}',
        ),
        ("/tasks/t:cancel", '{"tenant": "", "y": 1e0}', '{"y":1e0}'),
    ],
)
def test_what_must_be_taken_out_of_a_body_is_and_nothing_else(path: str, body: str, raw: str) -> None:
    assert rest.read_request("POST", path, b"", body.encode()).raw == raw.encode()


def test_large_integers_stay_what_they_are() -> None:
    metadata = {"n": 2**63 + 1, "m": -(2**100), "f": 1.0}
    found = read("POST", "/message:send", {"message": {**MESSAGE, "metadata": metadata}})
    assert found.params["message"]["metadata"] == metadata
    assert isinstance(found.params["message"]["metadata"]["f"], float)
    written = rest.write_request(BASE, "1.0", "SendMessage", found.params, None)
    assert b"1267650600228229401496703205376" in (written.body or b"")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks/t:cancel", {"id": "other"}),
        ("/tasks/t:cancel", {"Id": "t"}),
        ("/tasks/t:cancel", {"id": 5}),
        ("/tasks/t:cancel", {"tenant": "acme"}),
        ("/tasks/t:cancel", {"metadata": 5}),
        ("/tasks/t:cancel", b'{"id":"t","id":"t"}'),
        ("/v1/tasks/t:cancel", {"name": "tasks/other"}),
        ("/v1/tasks/t:cancel", {"name": "t"}),
        ("/tasks/t/pushNotificationConfigs", {"url": "u", "taskId": "other"}),
        ("/tasks/t/pushNotificationConfigs", {"url": "u", "task_id": "t"}),
        ("/tasks/t/pushNotificationConfigs", {"url": "u", "tenant": "acme"}),
        ("/tasks/t/pushNotificationConfigs", b'{"url":"u","url":"v"}'),
        ("/tasks/t/pushNotificationConfigs", {"pushNotificationConfig": {"url": "u"}}),
        ("/tasks/t/pushNotificationConfigs", {}),
        ("/v1/tasks/t/pushNotificationConfigs", {}),
        ("/v1/tasks/t/pushNotificationConfigs", {"config": None}),
        ("/v1/tasks/t/pushNotificationConfigs", {"config": {}}),
        ("/v1/tasks/t/pushNotificationConfigs", {"config": {"push_notification_config": {}}}),
        ("/v1/tasks/t/pushNotificationConfigs", {"config": {"Push-Notification-Config": {"url": "u"}}}),
        (
            "/v1/tasks/t/pushNotificationConfigs",
            {"parent": "tasks/o", "config": {"pushNotificationConfig": {"url": "u"}}},
        ),
        ("/v1/tasks/t/pushNotificationConfigs", {"name": "tasks/tt", "pushNotificationConfig": {"url": "u"}}),
        ("/v1/tasks/t/pushNotificationConfigs", {"parent": 5, "pushNotificationConfig": {"url": "u"}}),
        ("/v1/tasks/t/pushNotificationConfigs", {"pushNotificationConfig": {"url": "u", "taskId": "t"}}),
        (
            "/v1/tasks/t/pushNotificationConfigs",
            {"configId": "a", "config": {"pushNotificationConfig": {"url": "u", "id": "b"}}},
        ),
    ],
)
@pytest.mark.attack("2.1/23")
def test_a_body_that_contradicts_its_path_is_refused(path: str, body: Any) -> None:
    with pytest.raises(InvalidRequest):
        read("POST", path, body)


@pytest.mark.parametrize(
    ("version", "operation", "params"),
    [
        ("1.0", "GetTask", {}),
        ("1.0", "GetTask", {"id": ""}),
        ("1.0", "GetTask", {"id": ".."}),
        ("1.0", "GetTaskPushNotificationConfig", {"taskId": "t", "id": "."}),
        ("0.3", "GetTask", {}),
        ("0.3", "GetTask", {"name": "tasks/a/b"}),
        ("0.3", "GetTask", {"name": CONFIG_NAME}),
        ("0.3", "GetTask", {"name": "tasks/.."}),
        ("0.3", "GetTaskPushNotificationConfig", {"name": NAME}),
        ("0.3", "ListTaskPushNotificationConfigs", {"parent": "t"}),
    ],
)
def test_an_id_that_a_path_cannot_hold_is_not_sent(
    version: Version, operation: Operation, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParams):
        rest.write_request(BASE, version, operation, params, None)


PIECES = st.sampled_from(
    [
        "/",
        "tasks",
        "v1",
        "t",
        ":cancel",
        ":subscribe",
        "pushNotificationConfigs",
        "%2F",
        "%2e",
        ".",
        "%",
        ":",
        "message",
        ":send",
    ]
)


@given(
    path=st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=20),
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    query=st.binary(max_size=20),
    body=st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_any_request_is_read_or_refused(path: str, method: str, query: bytes, body: bytes) -> None:
    for tried in (path, f"/{path}", f"/v1/{path}"):
        try:
            found = rest.read_request(method, tried, query, body)
        except (NotFound, HttpMethodRefused, InvalidRequest, ParseFailed):
            continue
        try:
            assert reread(*found[:3]) == found._replace(raw=None)
        except InvalidParams:
            assert found.version == "0.3"  # pragma: no cover


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_an_error_in_a_stream_ends_the_sdks_clients_stream(version: Version) -> None:
    event = rest.write_error_event(Fault(-32006, "the agent\nbroke", []), version)

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": keep-alive\n\n" + event})

    async with served(answer) as url, httpx.AsyncClient(trust_env=False) as http:
        client = (RestTransport if version == "1.0" else CompatRestTransport)(http, AgentCard(), url)
        with pytest.raises(Exception, match="broke") as raised:
            _ = [one async for one in client.subscribe(a2a_pb2.SubscribeToTaskRequest(id="t"))]
    if version == "1.0":
        assert type(raised.value).__name__ == "InvalidAgentResponseError"
    else:  # it looks at no error in a stream
        assert type(raised.value) is A2AClientError
