"""A server with all that the official conformance suite calls, on the official SDK: PyPI has none.

Names, texts and schemas are those that the suite's own scenarios ask for. What asks its caller does so in both eras: by
`input_required` in 2026-07-28, by requests of its own in older revisions. What only one era can say (a question under a
name of the server's, several questions at once) fails in the other one: `Question.only_modern`.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import mcp_types as t
from mcp import MCPDeprecationWarning
from mcp.server import Server
from mcp.server.caching import CacheHint
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

from tests.conftest import served
from tests.peers import mcp_tasks

Era = Literal["modern", "legacy"]

MODERN = "2026-07-28"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
STEP_S = 0.05
"""The scenarios ask for such pauses between notifications."""

JSON_SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def form(message: str, *, required: list[str] | None = None, **properties: dict[str, Any]) -> dict[str, Any]:
    """Params of a form elicitation."""
    schema = {"type": "object", "properties": properties, "required": required or []}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sampling(text: str, max_tokens: int = 100) -> dict[str, Any]:
    """Params of a request for a completion."""
    messages = [{"role": "user", "content": {"type": "text", "text": text}}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": max_tokens}}


ROOTS = {"method": "roots/list", "params": {}}
STRING = {"type": "string"}


def _defaults() -> dict[str, Any]:
    return form(
        "Please review the defaults",
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )


def _enums() -> dict[str, Any]:
    plain = ["option1", "option2", "option3"]
    titled = [
        {"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second", "Third"), 1)
    ]
    legacy = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    return form(
        "Please choose",
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", **legacy},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )


@dataclass(frozen=True)
class Question:
    """A tool or prompt that asks its caller, in one or more rounds of requests by name."""

    rounds: tuple[dict[str, dict[str, Any]], ...]
    schema: dict[str, Any] = field(default_factory=lambda: NOTHING)
    stateful: bool = False
    """Whether its first round carries state too; later rounds always do."""
    only_modern: bool = False
    """Whether it means the names of its requests, or several at once: older revisions have neither."""


QUESTIONS = {
    "test_elicitation_sep1034_defaults": Question(({"answer": _defaults()},)),
    "test_elicitation_sep1330_enums": Question(({"answer": _enums()},)),
    "test_streaming_elicitation": Question(({"answer": form("Go on?", ok={"type": "boolean"})},)),
    "test_input_required_result_elicitation": Question(
        ({"user_name": form("What is your name?", required=["name"], name=STRING)},), only_modern=True
    ),
    "test_input_required_result_sampling": Question(
        ({"capital_question": sampling("What is the capital of France?")},)
    ),
    "test_input_required_result_list_roots": Question(({"client_roots": ROOTS},)),
    "test_input_required_result_request_state": Question(
        ({"confirm": form("Please confirm", required=["ok"], ok={"type": "boolean"})},), stateful=True
    ),
    "test_input_required_result_tampered_state": Question(
        ({"confirm": form("Please confirm", required=["ok"], ok={"type": "boolean"})},), stateful=True
    ),
    "test_input_required_result_multiple_inputs": Question(
        (
            {
                "user_name": form("What is your name?", required=["name"], name=STRING),
                "greeting": sampling("Generate a greeting", 50),
                "client_roots": ROOTS,
            },
        ),
        stateful=True,
        only_modern=True,
    ),
    "test_input_required_result_multi_round": Question(
        (
            {"step1": form("Step 1: What is your name?", required=["name"], name=STRING)},
            {"step2": form("Step 2: What is your favorite color?", required=["color"], color=STRING)},
        ),
        stateful=True,
    ),
}
PROMPT = "test_input_required_result_prompt"
PROMPT_QUESTION = Question(({"user_context": form("What context?", required=["context"], context=STRING)},))

DESCRIPTIONS = {
    "test_simple_text": "Says one text.",
    "test_image_content": "Shows a pixel.",
    "test_audio_content": "Plays nothing.",
    "test_embedded_resource": "Embeds a resource.",
    "test_multiple_content_types": "Says, shows and embeds.",
    "test_tool_with_logging": "Logs three times.",
    "test_logging_tool": "Logs three times.",
    "test_error_handling": "Fails.",
    "test_tool_with_progress": "Reports progress three times.",
    "test_missing_capability": "Runs for clients with sampling only.",
    "test_trigger_tool_change": "Lists one tool more, or no longer.",
    "test_trigger_prompt_change": "Lists one prompt more, or no longer.",
    "test_input_required_result_capabilities": "Asks only what the client can answer.",
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "json_schema_2020_12_tool": JSON_SCHEMA_2020_12,
    "test_sampling": {"type": "object", "properties": {"prompt": STRING}, "required": ["prompt"]},
    "test_elicitation": {"type": "object", "properties": {"message": STRING}, "required": ["message"]},
    "test_header_param": {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
}
RESOURCES = {
    "test://static-text": ("text/plain", {"text": "This is the content of the static text resource."}),
    "test://static-binary": ("image/png", {"blob": PNG}),
    "test://watched-resource": ("text/plain", {"text": "Watch me."}),
}
PROMPTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    PROMPT: (),
}


class Everything:
    """The server: its changing parts and its handlers."""

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()
        self.extra: set[str] = set()
        """`tool`, `prompt`: which lists are one longer now."""
        hint = CacheHint(5_000, "private")
        self.server: Server[Any] = Server(
            "everything",
            version="1",
            instructions="Everything that the suite calls.",
            cache_hints={
                "tools/list": hint,
                "prompts/list": hint,
                "resources/list": hint,
                "resources/templates/list": hint,
                "resources/read": hint,
                "server/discover": hint,
            },
            get_tool_input_schema=lambda name: SCHEMAS.get(name, NOTHING),
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_subscribe_resource=self.nothing,
            on_unsubscribe_resource=self.nothing,
            on_completion=self.complete,
            on_subscriptions_listen=ListenHandler(self.bus),
        )
        self.server.add_request_handler("logging/setLevel", t.SetLevelRequestParams, self.nothing)
        self.tasks = mcp_tasks.TaskTools()
        self.tasks.attach(self.server)
        self.server.middleware.append(
            RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="everything")
        )

    async def nothing(self, ctx: Any, params: Any) -> t.EmptyResult:
        return t.EmptyResult()

    async def complete(self, ctx: Any, params: t.CompleteRequestParams) -> t.CompleteResult:
        values = [value for value in ("test", "testing", "paris") if value.startswith(params.argument.value)]
        return t.CompleteResult(completion=t.Completion(values=values, total=len(values), has_more=False))

    async def list_tools(self, ctx: Any, params: Any) -> t.ListToolsResult:
        schemas = {
            **dict.fromkeys(DESCRIPTIONS, NOTHING),
            **{name: q.schema for name, q in QUESTIONS.items()},
            **SCHEMAS,
            **mcp_tasks.TOOLS,
        }
        if "tool" in self.extra:
            schemas["test_dynamic_tool"] = NOTHING
        return t.ListToolsResult(
            tools=[
                t.Tool(
                    name=name, description=DESCRIPTIONS.get(name, f"For the scenario of {name}."), input_schema=schema
                )
                for name, schema in schemas.items()
            ]
        )

    async def list_prompts(self, ctx: Any, params: Any) -> t.ListPromptsResult:
        prompts: dict[str, tuple[str, ...]] = {
            **PROMPTS,
            **({"test_dynamic_prompt": ()} if "prompt" in self.extra else {}),
        }
        return t.ListPromptsResult(
            prompts=[
                t.Prompt(
                    name=name,
                    description=f"For the scenario of {name}.",
                    arguments=[t.PromptArgument(name=argument, required=True) for argument in arguments],
                )
                for name, arguments in prompts.items()
            ]
        )

    async def get_prompt(self, ctx: Any, params: t.GetPromptRequestParams) -> Any:
        arguments = params.arguments or {}
        if params.name == PROMPT:
            return await self.ask(ctx, params, PROMPT_QUESTION, _prompt_text)
        parts: dict[str, list[dict[str, Any]]] = {
            "test_simple_prompt": [_text("This is a simple prompt for testing.")],
            "test_prompt_with_arguments": [
                _text(f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'")
            ],
            "test_prompt_with_embedded_resource": [
                _resource(str(arguments.get("resourceUri")), "text/plain", "Embedded resource content for testing."),
                _text("Please process the embedded resource above."),
            ],
            "test_prompt_with_image": [_image(), _text("Please analyze the image above.")],
        }
        if params.name not in parts:
            raise MCPError(code=t.INVALID_PARAMS, message=f"Unknown prompt: {params.name}")
        return _result(ctx, {"messages": [{"role": "user", "content": part} for part in parts[params.name]]})

    async def list_resources(self, ctx: Any, params: Any) -> t.ListResourcesResult:
        return t.ListResourcesResult(
            resources=[
                t.Resource(uri=uri, name=uri.partition("//")[2], description=f"For {uri}.", mime_type=media_type)
                for uri, (media_type, _) in RESOURCES.items()
            ]
        )

    async def list_templates(self, ctx: Any, params: Any) -> t.ListResourceTemplatesResult:
        template = t.ResourceTemplate(
            uri_template="test://template/{id}/data",
            name="template",
            description="By id.",
            mime_type="application/json",
        )
        return t.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(self, ctx: Any, params: t.ReadResourceRequestParams) -> Any:
        uri = str(params.uri)
        if uri in RESOURCES:
            media_type, content = RESOURCES[uri]
        elif uri.startswith("test://template/") and uri.endswith("/data"):
            found = uri.removeprefix("test://template/").removesuffix("/data")
            media_type = "application/json"
            content = {"text": json.dumps({"id": found, "templateTest": True, "data": f"Data for ID: {found}"})}
        else:
            code = t.INVALID_PARAMS if ctx.protocol_version == MODERN else -32002
            raise MCPError(code=code, message="Resource not found", data={"uri": uri})
        found = {"contents": [{"uri": uri, "mimeType": media_type, **content}]}
        return _result(
            ctx, {**found, **({"ttlMs": 5000, "cacheScope": "private"} if ctx.protocol_version == MODERN else {})}
        )

    async def call_tool(self, ctx: Any, params: t.CallToolRequestParams) -> Any:
        name, arguments = params.name, params.arguments or {}
        if question := self.question(ctx, name, arguments):
            return await self.ask(ctx, params, question, _tool_text)
        if name in mcp_tasks.TOOLS:
            return await self.tasks.call(ctx, params)
        if special := SPECIALS.get(name):
            await special(self, ctx)
        if name not in CONTENTS and name not in DESCRIPTIONS and name not in SCHEMAS and name != "test_dynamic_tool":
            raise MCPError(code=t.INVALID_PARAMS, message=f"Unknown tool: {name}")
        content = CONTENTS.get(name, [_text(f"{name} ran: {json.dumps(arguments, sort_keys=True)}")])
        return _result(ctx, {"content": content, "isError": name == "test_error_handling"})

    def question(self, ctx: Any, name: str, arguments: dict[str, Any]) -> Question | None:
        """What a tool asks of this client."""
        if name == "test_sampling":
            return Question(({"answer": sampling(str(arguments.get("prompt")))},))
        if name == "test_elicitation":
            asked = form(str(arguments.get("message")), required=["username", "email"], username=STRING, email=STRING)
            return Question(({"answer": asked},))
        if name == "test_input_required_result_capabilities":
            able = ctx.session.client_capabilities or t.ClientCapabilities()
            asked = {"capital": sampling("What is the capital of France?")} if able.sampling else {}
            asked |= {"name": form("What is your name?", name=STRING)} if able.elicitation else {}
            return Question((dict([asked.popitem()]),)) if asked else None
        return QUESTIONS.get(name)

    async def ask(
        self, ctx: Any, params: Any, question: Question, end: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Any:
        """Ask in the caller's era, and end with what `end` makes of all answers."""
        if ctx.protocol_version != MODERN:
            if question.only_modern:
                raise MCPError(code=t.INTERNAL_ERROR, message=f"no way to ask this in {ctx.protocol_version}")
            given = {}
            for number, asked in enumerate(question.rounds):
                for name, request in asked.items():
                    given[f"{number}.{name}"] = await _ask_back(ctx, request)
            return end(given)
        state = json.loads(params.request_state) if params.request_state else {"round": 0, "given": {}}
        answers = {name: _plain(answer) for name, answer in (params.input_responses or {}).items()}
        if set(question.rounds[state["round"]]) <= answers.keys():
            state = {"round": state["round"] + 1, "given": {**state["given"], **answers}}
        if state["round"] == len(question.rounds):
            return _result(ctx, end(state["given"]))
        asked = question.rounds[state["round"]]
        carried = {"requestState": json.dumps(state)} if question.stateful or state["round"] else {}
        return {"resultType": "input_required", "inputRequests": asked, **carried}

    async def log(self, ctx: Any) -> None:
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MCPDeprecationWarning)
                sent = ctx.session.send_log_message("info", text, related_request_id=ctx.request_id)
            await sent
            await asyncio.sleep(STEP_S)

    async def progress(self, ctx: Any) -> None:
        for done in (0, 50, 100):
            await ctx.session.report_progress(done, 100)
            await asyncio.sleep(STEP_S)

    async def needs_sampling(self, ctx: Any) -> None:
        able = ctx.session.client_capabilities
        if not able or able.sampling is None:
            data = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(code=t.MISSING_REQUIRED_CLIENT_CAPABILITY, message="sampling is needed", data=data)

    async def change_tools(self, ctx: Any) -> None:
        self.extra ^= {"tool"}
        await self.bus.publish(ToolsListChanged())
        if ctx.protocol_version != MODERN:
            await ctx.session.send_tool_list_changed()

    async def change_prompts(self, ctx: Any) -> None:
        self.extra ^= {"prompt"}
        await self.bus.publish(PromptsListChanged())
        if ctx.protocol_version != MODERN:
            await ctx.session.send_prompt_list_changed()


SPECIALS: dict[str, Callable[[Everything, Any], Awaitable[None]]] = {
    "test_tool_with_logging": Everything.log,
    "test_logging_tool": Everything.log,
    "test_tool_with_progress": Everything.progress,
    "test_missing_capability": Everything.needs_sampling,
    "test_trigger_tool_change": Everything.change_tools,
    "test_trigger_prompt_change": Everything.change_prompts,
}
ASKED: dict[str, tuple[Any, Any]] = {
    "elicitation/create": (t.ElicitRequest, t.ElicitResult),
    "sampling/createMessage": (t.CreateMessageRequest, t.CreateMessageResult),
    "roots/list": (t.ListRootsRequest, t.ListRootsResult),
}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image() -> dict[str, Any]:
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def _resource(uri: str, media_type: str, text: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": media_type, "text": text}}


CONTENTS: dict[str, list[dict[str, Any]]] = {
    "test_simple_text": [_text("This is a simple text response for testing.")],
    "test_image_content": [_image()],
    "test_audio_content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}],
    "test_embedded_resource": [
        _resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": [
        _text("Multiple content types test:"),
        _image(),
        _resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
    "test_error_handling": [_text("This tool intentionally returns an error for testing")],
}


def _tool_text(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [_text(f"state-ok: {json.dumps(given, sort_keys=True)}")]}


def _prompt_text(given: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": _text(json.dumps(given, sort_keys=True))}]}


def _result(ctx: Any, result: dict[str, Any]) -> dict[str, Any]:
    return {"resultType": "complete", **result} if ctx.protocol_version == MODERN else result


def _plain(answer: Any) -> Any:
    return answer.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(answer, "model_dump") else answer


async def _ask_back(ctx: Any, request: dict[str, Any]) -> Any:
    """Ask an older client by a request of one's own."""
    asked, answer = ASKED[request["method"]]
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    return _plain(await ctx.session.send_request(asked.model_validate(request), answer, metadata=related))


@asynccontextmanager
async def everything(*, only: Era | None = None) -> AsyncIterator[str]:
    """Serve it on a free port; yields its URL. `only`: the one era it speaks, refusing the other as such servers do."""
    peer = Everything()
    app = peer.server.streamable_http_app(streamable_http_path="/mcp")
    async with served(_refusing(app, only) if only else app) as url:
        yield f"{url}/mcp"
    await peer.tasks.aclose()


def _refusing(app: Callable[..., Any], only: Era) -> Callable[..., Any]:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        is_modern = headers.get(b"mcp-protocol-version", b"").strip() == MODERN.encode()
        if scope["type"] != "http" or is_modern == (only == "modern"):
            await app(scope, receive, send)
            return
        status, body = 400, b"Bad Request: Unsupported protocol version"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    return refusing
