"""Guards at the doors: what servers get of arguments, and callers of results; in both revisions, chats, and over all ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import mcp_types as t
import pytest
from mcp.server import Server

from tests.conftest import ADMIN_KEY, OpenHub
from tests.doors.test_a2a import rpc, said
from tests.doors.test_a2a import yaml as agent_yaml
from tests.doors.test_audit import entries
from tests.doors.test_policy import call
from tests.peers import mcp_servers
from tests.peers.a2a_agent import sdk_agent
from tests.peers.anthropic_upstream import KEY, Said, anthropic_upstream
from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_servers import Peer
from tests.peers.openai_upstream import USAGE, Turn, chunk, openai_upstream, sse

SK = "sk-abcdefghijklmnopqrstuvwx"
MAIL = "jo@example.org"


def guards(**items: dict[str, Any]) -> str:
    return f"guards: {json.dumps(items)}\n"


def mail(action: str, *of: str, **members: Any) -> dict[str, Any]:
    return {"type": "pii", "kinds": ["email"], "action": action, "of": list(of), "entries": ["server:peer"], **members}


@asynccontextmanager
async def hub_of(
    tmp_path: Path, make: Any = mcp_servers.sdk_server, **items: dict[str, Any]
) -> AsyncIterator[tuple[McpHub, Peer, httpx.AsyncClient]]:
    async with (
        mcp_servers.dual_era(make) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n{guards(**items)}") as hub,
        hub.http(await hub.key("server:peer")) as http,
    ):
        await hub.listed("peer__echo")
        yield hub, peer, http


@pytest.mark.attack("2.2/25")
@pytest.mark.attack("2.1/12", defence="registry.rules.guards:look_now")
async def test_what_was_looked_at_is_what_the_server_gets(tmp_path: Path) -> None:
    async with hub_of(tmp_path, mail=mail("redact", "arguments")) as (hub, peer, http):
        await call(http, {"text": f"write to {MAIL}", "deep": [{"to": [MAIL]}]})
        await call(http, '{"text": "jo\\u0040example.org"}')
        assert "error" in await call(http, f'{{"text": "x", "text": "{MAIL}"}}')
        await call(http, {"text": "nothing"})
        assert [arguments for _, arguments in peer.calls] == [
            {"text": "write to [redacted: mail]", "deep": [{"to": ["[redacted: mail]"]}]},
            {"text": "[redacted: mail]"},
            {"text": "nothing"},
        ]
        noted = [one for one in await entries(hub) if one["act"] == "redacted"]
        assert [(one["object"], one["outcome"], one["detail"]) for one in noted] == [
            ("tool:peer__echo", "mail", "email in the arguments")
        ] * 2
        assert MAIL not in str(await entries(hub))


async def test_a_blocked_call_is_not_sent_and_says_which_guard_it_was(tmp_path: Path) -> None:
    async with hub_of(tmp_path, mail=mail("block", "arguments")) as (hub, peer, http):
        error = (await call(http, {"text": MAIL}))["error"]
        assert "The hub's guard 'mail' keeps back the arguments of this call: it found email." in error["message"]
        assert MAIL not in str(error)
        assert peer.calls == []
        (noted,) = [one for one in await entries(hub) if one["act"] == "refused"]
        assert (noted["object"], noted["outcome"]) == ("tool:peer__echo", "GuardRefused")


async def test_what_has_to_be_approved_goes_the_way_of_rules_once(tmp_path: Path) -> None:
    async with hub_of(tmp_path, mail=mail("require_approval", "arguments")) as (hub, peer, http):
        assert "has this call approved first" in (await call(http, {"text": MAIL}))["error"]["message"]
        async with hub.http(ADMIN_KEY) as admin:
            (waiting,) = (await admin.get("/api/approvals")).json()["items"]
            await admin.post(f"/api/approvals/{waiting['id']}", json={"decision": "approve"})
        assert "result" in await call(http, {"text": MAIL})
        assert "error" in await call(http, {"text": MAIL})
        assert peer.calls == [("echo", {"text": MAIL})]


@pytest.mark.attack("2.1/11", "2.1/12", defence="registry.rules.guards:look_now")
async def test_results_are_redacted_wherever_a_text_stands_in_them(tmp_path: Path) -> None:
    async with hub_of(tmp_path, mail=mail("redact", "results")) as (_hub, peer, http):
        result = (await call(http, {"text": MAIL, MAIL: 1}))["result"]
        assert MAIL not in str(result)
        assert result["structuredContent"] == {"echoed": {"text": "[redacted: mail]", "[redacted: mail]": 1}}
        assert peer.calls == [("echo", {"text": MAIL, MAIL: 1})]
        untouched = (await call(http, {"text": "fine"}))["result"]
        assert untouched["structuredContent"] == {"echoed": {"text": "fine"}}


@pytest.mark.parametrize("action", ["block", "require_approval"])
async def test_a_result_that_is_kept_back_was_a_call_all_the_same(tmp_path: Path, action: str) -> None:
    async with hub_of(tmp_path, mail=mail(action, "results")) as (hub, peer, http):
        answer = await call(http, {"text": MAIL})
        assert "'mail' keeps back the results of this call" in answer["error"]["message"]
        assert MAIL not in str(answer)
        assert len(peer.calls) == 1
        assert [one["outcome"] for one in await entries(hub) if one["act"] == "refused"] == ["GuardRefused"]
        (permit,) = [one for one in hub.gate.permits if one.kind == "tool"]
        assert (permit.requests, hub.gate.outcomes[id(permit)]) == (1, ["error"])


async def test_older_clients_get_what_guards_leave_too(tmp_path: Path) -> None:
    async with (
        hub_of(tmp_path, mail=mail("redact", "results")) as (hub, _peer, _http),
        hub.client(await hub.key("server:peer"), mode="legacy") as client,
    ):
        result = await client.call_tool("peer__echo", {"text": MAIL})
        assert MAIL not in result.model_dump_json()


async def test_prompts_and_resources_are_looked_at_as_tools_are(tmp_path: Path) -> None:
    def make(peer: Peer, **_: Any) -> Server[Any]:
        async def tools(ctx: Any, params: Any) -> t.ListToolsResult:
            return t.ListToolsResult(tools=[t.Tool(name="echo", input_schema={"type": "object"})])

        async def prompts(ctx: Any, params: Any) -> t.ListPromptsResult:
            return t.ListPromptsResult(prompts=[t.Prompt(name="greet")])

        async def prompt(ctx: Any, params: t.GetPromptRequestParams) -> t.GetPromptResult:
            peer.calls.append(("greet", dict(params.arguments or {})))
            content = t.TextContent(type="text", text=f"greet {MAIL}")
            return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=content)])

        async def resources(ctx: Any, params: Any) -> t.ListResourcesResult:
            return t.ListResourcesResult(resources=[t.Resource(name="book", uri="book://one")])

        async def resource(ctx: Any, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
            return t.ReadResourceResult(contents=[t.TextResourceContents(uri="book://one", text=f"by {MAIL}")])

        return Server(
            "peer",
            version="1",
            on_list_tools=tools,
            on_list_prompts=prompts,
            on_get_prompt=prompt,
            on_list_resources=resources,
            on_read_resource=resource,
        )

    async with (
        hub_of(tmp_path, make, mail=mail("redact", "arguments", "results")) as (hub, peer, _http),
        hub.client(await hub.key("server:peer")) as client,
    ):
        greeting = await client.get_prompt("peer__greet", {"name": MAIL})
        assert peer.calls == [("greet", {"name": "[redacted: mail]"})]
        (listed,) = (await client.list_resources()).resources
        read = await client.read_resource(listed.uri)
        assert MAIL not in greeting.model_dump_json() + read.model_dump_json()
        assert "[redacted: mail]" in read.model_dump_json()


async def test_an_error_of_a_server_and_what_it_says_meanwhile_pass_the_guards(tmp_path: Path) -> None:
    def make(peer: Peer, **_: Any) -> Server[Any]:
        async def tools(ctx: Any, params: Any) -> t.ListToolsResult:
            return t.ListToolsResult(tools=[t.Tool(name="echo", input_schema={"type": "object"})])

        async def tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
            await ctx.session.report_progress(1, message=f"asking {MAIL}")
            return t.CallToolResult(content=[t.TextContent(type="text", text=f"no {MAIL}")], is_error=True)

        return Server("peer", version="1", on_list_tools=tools, on_call_tool=tool)

    heard: list[str] = []
    told = asyncio.Event()

    async def progress(_done: float, _total: float | None, text: str | None) -> None:
        heard.append(text or "")
        told.set()

    async with (
        hub_of(tmp_path, make, mail=mail("redact", "results")) as (hub, _peer, _http),
        hub.client(await hub.key("server:peer")) as client,
    ):
        result = await client.call_tool("peer__echo", {}, progress_callback=progress)
        async with asyncio.timeout(10):
            await told.wait()
    assert result.is_error
    assert "no [redacted: mail]" in result.model_dump_json()
    assert heard == ["asking [redacted: mail]"]


async def test_a_condition_says_for_whom_a_guard_is(tmp_path: Path) -> None:
    condition = {"when": "principal.name != 'key-1' && !has(arguments.raw)"}
    async with hub_of(tmp_path, mail=mail("redact", "results", **condition)) as (hub, _peer, http):
        assert MAIL not in str(await call(http, {"text": MAIL}))
        assert MAIL in str(await call(http, {"text": MAIL, "raw": True}))
        async with hub.http(await hub.key("server:peer")) as trusted:
            assert MAIL in str(await call(trusted, {"text": MAIL}))


@pytest.mark.attack("2.1/12")
async def test_a_result_of_which_readers_may_see_different_things_is_kept_back(tmp_path: Path) -> None:
    def answer(asked: dict[str, Any]) -> tuple[int, bytes, bytes]:
        body = b'{"jsonrpc":"2.0","id":%d,"result":{"resultType":"complete","content":[{"type":"text","text":"jo@example.org","text":"b"}]}}'
        return 200, b"application/json", body % asked["id"]

    tools = [{"name": "echo", "inputSchema": {"type": "object"}}]
    async with (
        mcp_servers.scripted(mcp_servers.modern(tools, call=answer)) as peer,
        open_mcp_hub(
            tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n{guards(mail=mail('redact', 'results'))}"
        ) as hub,
        hub.http(await hub.key("server:peer")) as http,
    ):
        await hub.listed("peer__echo")
        assert "stands twice" in (await call(http, {}))["error"]["message"]


async def test_a_guard_of_one_server_leaves_others_as_they_are(tmp_path: Path) -> None:
    async with hub_of(tmp_path, mail=mail("block", "results", entries=["server:other"])) as (hub, _peer, http):
        assert MAIL in str(await call(http, {"text": MAIL}))
        assert await entries(hub) == []


async def test_what_an_agent_and_a_model_are_sent_can_be_blocked(hub: OpenHub) -> None:
    guard = {"type": "secrets", "action": "block", "of": ["arguments"]}
    async with (
        sdk_agent() as agent,
        hub(f"{agent_yaml(agent.url)}models: {{offline: {{provider: offline}}}}\n{guards(keys=guard)}") as running,
        running.http(await running.key("agent:*", "model:*")) as http,
    ):
        refused = await http.post("/a2a/echo", json=rpc("SendMessage", said(f"use {SK}")))
        assert "'keys' keeps back the arguments" in refused.text
        assert "result" in (await http.post("/a2a/echo", json=rpc("SendMessage", said("hello")))).json()
        asked = {"model": "offline", "messages": [{"role": "user", "content": f"use {SK}"}]}
        answer = await http.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 403
        assert SK not in answer.text
        assert len([one for one in agent.calls if one.json.get("params")]) == 1


async def test_an_agent_is_sent_what_guards_leave_in_every_version(hub: OpenHub) -> None:
    guard = {"type": "pii", "kinds": ["email"], "action": "redact", "of": ["arguments"], "entries": ["agent:echo"]}
    old = {
        "message": {
            "messageId": "m",
            "role": "user",
            "kind": "message",
            "parts": [{"kind": "text", "text": f"to {MAIL}"}],
        }
    }
    async with (
        sdk_agent() as agent,
        hub(agent_yaml(agent.url) + guards(mail=guard)) as running,
        running.http(await running.key("agent:*", "model:*")) as http,
    ):
        for method, params in (
            ("SendMessage", said(f"to {MAIL}")),
            ("SendStreamingMessage", said(f"to {MAIL}")),
            ("message/send", old),
            ("message/stream", old),
        ):
            version = {} if "/" not in method else {"a2a-version": "0.3"}
            answer = await http.post("/a2a/echo", json=rpc(method, params), headers=version)
            assert "error" not in answer.text, answer.text
            assert MAIL not in answer.text
        rest = await http.post("/a2a/echo/message:send", json=said(f"to {MAIL}"), headers={"a2a-version": "1.0"})
        assert rest.status_code == 200
        tool = {"name": "agent__echo", "arguments": {"message": f"to {MAIL}"}}
        called = await http.post("/mcp", json=message("tools/call", tool), headers=headers("tools/call", "agent__echo"))
        assert '"result"' in called.text, called.text
        asked = {"model": "agent/echo", "messages": [{"role": "user", "content": f"to {MAIL}"}]}
        chat = await http.post("/v1/chat/completions", json=asked)
        assert chat.status_code == 200, chat.text
        sent = [json.dumps(one.json) for one in agent.calls if one.json.get("params")]
        assert len(sent) == 7
        assert all("to [redacted: mail]" in one and MAIL not in one for one in sent)


async def test_a_changed_file_changes_the_guards(tmp_path: Path) -> None:
    async with hub_of(tmp_path, mail=mail("block", "arguments")) as (hub, _peer, http):
        assert "error" in await call(http, {"text": MAIL})
        declared = hub.services.declared
        await hub.services.registry.follow_file(replace(declared, guards=None))
        assert "result" in await call(http, {"text": MAIL})


def model_mail(action: str, *of: str) -> str:
    return guards(mail={"type": "pii", "kinds": ["email"], "action": action, "of": list(of), "entries": ["model:*"]})


def models(openai_url: str, anthropic_url: str = "http://127.0.0.1:9") -> str:
    return (
        f"models:\n  gpt: {{provider: openai, model: up, base_url: '{openai_url}', api_key: sk-x}}\n"
        f"  claude: {{provider: anthropic, model: up, base_url: '{anthropic_url}', api_key: {KEY}}}\n"
        f"  two: {{deployments: [{{provider: openai, model: a, base_url: '{openai_url}', api_key: sk-x}}, "
        f"{{provider: openai, model: b, base_url: '{openai_url}', api_key: sk-x}}]}}\n"
    )


@pytest.mark.parametrize("model", ["gpt", "two"])
async def test_a_model_is_sent_what_guards_leave(hub: OpenHub, model: str) -> None:
    async with (
        openai_upstream(Turn("hi")) as upstream,
        hub(models(upstream.url) + model_mail("redact", "arguments")) as running,
        running.http(await running.key("model:*")) as http,
    ):
        for stream in (False, True):
            asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": f"to {MAIL}"}]}
            assert (await http.post("/v1/chat/completions", json=asked)).status_code == 200
        sent = [json.loads(one.raw) for one in upstream.received]
        assert [one["messages"][0]["content"] for one in sent] == ["to [redacted: mail]"] * 2
        assert {one["model"] for one in sent} <= {"up", "a", "b"}
        assert len([one for one in await entries(running) if one["act"] == "redacted"]) == 2


def chunked(*texts: str) -> Turn:
    """A stream with the text in these pieces, whatever words they cut."""
    body = {"model": "up"}
    usage = sse(
        {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [], "usage": USAGE}
    )
    pieces = [chunk(body, {"content": text}) for text in texts]
    return Turn(raw=(*pieces, chunk(body, {}, "stop"), usage, b"data: [DONE]\n\n"))


async def test_a_text_that_is_split_over_a_stream_is_found(hub: OpenHub) -> None:
    turns = [chunked("write to jo@exa", "mple", ".org or not"), chunked("nothing ", "here")]
    async with (
        openai_upstream(*turns) as upstream,
        hub(models(upstream.url) + model_mail("redact", "results")) as running,
        running.http(await running.key("model:*")) as http,
    ):
        texts = []
        for _ in turns:
            asked = {"model": "gpt", "stream": True, "messages": [{"role": "user", "content": "x"}]}
            answer = await http.post("/v1/chat/completions", json=asked)
            told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
            texts.append([choice["delta"].get("content") for one in told for choice in one["choices"]])
            assert answer.text.endswith("data: [DONE]\n\n")
        assert texts == [["write to [redacted: mail] or not", "", "", None], ["nothing ", "here", None]]
        used = [
            (one.usage.input_tokens, one.usage.output_tokens) for one in running.gate.permits if one.kind == "model"
        ]
        assert used == [(9, 4), (9, 4)]


async def test_arguments_of_a_tool_call_are_looked_at_as_the_json_that_they_are(hub: OpenHub) -> None:
    turn = Turn(calls=(("send", '{"to": "jo\\u0040example.org", "n": 1}'),))
    tool = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}
    async with (
        openai_upstream(turn) as upstream,
        hub(models(upstream.url) + model_mail("redact", "results")) as running,
        running.http(await running.key("model:*")) as http,
    ):
        asked = {"model": "gpt", "tools": [tool], "messages": [{"role": "user", "content": "x"}]}
        whole = (await http.post("/v1/chat/completions", json=asked)).json()["choices"][0]["message"]["tool_calls"]
        streamed = await http.post("/v1/chat/completions", json={**asked, "stream": True})
        told = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
        calls = [call for one in told for choice in one["choices"] for call in choice["delta"].get("tool_calls", [])]
        for arguments in (whole[0]["function"]["arguments"], "".join(call["function"]["arguments"] for call in calls)):
            assert json.loads(arguments) == {"to": "[redacted: mail]", "n": 1}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("model", ["gpt", "claude"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_answer_of_a_model_is_kept_back_at_every_door(
    hub: OpenHub, path: str, model: str, stream: bool
) -> None:
    async with (
        openai_upstream(Turn(f"write to {MAIL}")) as upstream,
        anthropic_upstream(Said(f"write to {MAIL}")) as claude,
        hub(models(upstream.url, claude.url) + model_mail("block", "results")) as running,
        running.http(await running.key("model:*")) as http,
    ):
        said_in = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}
        asked = {"input": "x"} if path == "/v1/responses" else said_in
        answer = await http.post(path, json={"model": model, "stream": stream, **asked})
        assert "example.org" not in answer.text
        assert "'mail' keeps back the results" in answer.text
        (permit,) = [one for one in running.gate.permits if one.kind == "model"]
        assert running.gate.outcomes[id(permit)] == ["error"]
        assert permit.usage.output_tokens


async def test_where_answers_cannot_be_looked_at_nothing_is_asked(hub: OpenHub) -> None:
    async with (
        openai_upstream(Turn("hi")) as upstream,
        hub(models(upstream.url) + model_mail("redact", "results")) as running,
        running.http(await running.key("model:*")) as http,
    ):
        answer = await http.post("/v1/embeddings", json={"model": "gpt", "input": "x"})
        assert (answer.status_code, "cannot look at them here" in answer.text) == (403, True)
        assert upstream.received == []


async def test_the_api_says_which_guards_there_are_and_what_they_found(tmp_path: Path) -> None:
    block = {
        "type": "secrets",
        "action": "block",
        "of": ["arguments"],
        "entries": ["tool:*"],
        "when": "has(arguments.key)",
    }
    async with hub_of(tmp_path, mail=mail("redact", "results"), keys=block) as (hub, _peer, http):
        for arguments in ({"text": MAIL}, {"text": MAIL}, {"text": "x"}, {"key": SK}, {"text": SK}):
            await call(http, arguments)
        async with hub.http(ADMIN_KEY) as admin:
            found = (await admin.get("/api/guards")).json()["items"]
            assert [(one["name"], one["type"], one["action"], one["redacted"], one["refused"]) for one in found] == [
                ("mail", "pii", "redact", 2, 0),
                ("keys", "secrets", "block", 0, 1),
            ]
            asked = {"kind": "tool", "name": "peer__echo"}
            said = (await http.get("/api/explain", params=asked)).json()["guards"]
            assert [(one["name"], one["when"]) for one in said] == [("mail", None), ("keys", "has(arguments.key)")]
            given = {**asked, "arguments": json.dumps({"text": "x"})}
            assert [one["name"] for one in (await http.get("/api/explain", params=given)).json()["guards"]] == ["mail"]
            rows = len(await entries(hub))
            tried = (await admin.post("/api/guards/test", json={"value": [MAIL, SK]})).json()["items"]
            assert tried == [
                {"guard": "keys", "action": "block", "found": "key", "redacted": [MAIL, "[redacted: keys]"]}
            ]
            one = {"value": {"a": MAIL}, "of": "results", "guards": ["mail"]}
            assert (await admin.post("/api/guards/test", json=one)).json()["items"] == [
                {"guard": "mail", "action": "redact", "found": "email", "redacted": {"a": "[redacted: mail]"}}
            ]
            assert MAIL not in str(await entries(hub))
            assert [row["object"] for row in (await entries(hub))[rows:]] == ["/api/guards/test"] * 2
        assert (await http.get("/api/guards")).status_code == 404
