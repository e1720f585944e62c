"""What the benchmark's proxies talk to: a model, an A2A agent and an MCP server on one port, with fixed answers.

A bare asyncio protocol, because it must cost less than nginx does: no framework, no routing beyond the first bytes, no
copy of a long answer. It reads just what it has to: the length, the key that is to be refused, and of JSON-RPC the id and
the method. Not a peer for tests: it is tolerant where a real server is strict.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from functools import partial
from itertools import count
from typing import Any

import msgspec
import uvloop

from tests.bench import long_answers

EVENTS = 50
EVENT_GAP_S = 0.001
"""Far enough apart that no proxy can put two events into one write by luck."""
TOOLS = 500
TOOLS_EACH = 50
"""Of each server below `/mcp/`, whose name is its number."""
WRONG_KEY = "sk-wrong-0000000000000000000000000000"
TEXT = "The quick brown fox jumps over the lazy dog. " * 17


def encode(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def tool(number: int, width: int = 3) -> dict[str, Any]:
    """One tool of 400 to 800 bytes, as real ones are, its number in at least `width` digits."""
    properties = {
        f"argument_{index}": {
            "type": "string",
            "description": f"What argument {index} of tool {number} means to its caller.",
        }
        for index in range(2 + number % 4)
    }
    return {
        "name": f"tool_{number:0{width}}",
        "title": f"Tool {number}",
        "description": f"Looks up record {number} of the warehouse and says where it is, how many are left and when more arrive.",
        "inputSchema": {"type": "object", "properties": properties, "required": ["argument_0"]},
    }


CHAT = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "upstream-model",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": TEXT}, "logprobs": None, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 160, "completion_tokens": 180, "total_tokens": 340},
    "system_fingerprint": "fp_bench",
}
TOOL_LIST = [tool(number) for number in range(TOOLS)]
TOOL_RESULT = {
    "resultType": "complete",
    "content": [{"type": "text", "text": "Record 7 is in aisle 12; 31 are left; more arrive on Tuesday."}],
    "structuredContent": {"aisle": 12, "left": 31, "next": "Tuesday"},
    "isError": False,
}
REFUSAL = {
    "error": {"message": "Incorrect API key provided.", "type": "invalid_request_error", "code": "invalid_api_key"}
}
DISCOVERED = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 3_600_000,
    "cacheScope": "public",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "bench", "version": "1"}},
}
LISTED = {"resultType": "complete", "tools": TOOL_LIST, "ttlMs": 3_600_000, "cacheScope": "public"}


def chunk(delta: dict[str, Any] | None, **more: Any) -> bytes:
    """One event of a chat stream, framed as HTTP chunk; no `delta`: the event that only tells the usage."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    event = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_760_000_000}
    return framed(b"data: " + encode(event | {"model": "upstream-model", "choices": choices} | more) + b"\n\n")


def framed(data: bytes) -> bytes:
    """An HTTP/1.1 chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


OK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole HTTP answer."""
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


CHAT_ANSWER = answer(encode(CHAT))
REFUSAL_ANSWER = answer(encode(REFUSAL), b"401 Unauthorized")
NOT_FOUND = answer(b"{}", b"404 Not Found")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"x-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n"  # nginx passes such an answer on as it comes
)
STREAM_EVENTS = [chunk({"content": f"word{number} "}) for number in range(EVENTS)]
STREAM_USAGE = chunk(None, usage=CHAT["usage"])
TOOL_ROUNDS = 3
"""So often a model that is offered nothing but tools calls one before it answers."""
TOOL_CALL = {
    "id": "call_0",
    "type": "function",
    "function": {"name": "bench__tool_007", "arguments": '{"argument_0":"7","argument_1":"today"}'},
}
LAST_CHUNK = b"0\r\n\r\n"
CALLING_ANSWER = answer(
    encode(
        CHAT
        | {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
                    "finish_reason": "tool_calls",
                }
            ]
        }
    )
)
CALLING_EVENTS = [chunk({"tool_calls": [{"index": 0} | TOOL_CALL]})]
STREAM_END = framed(b"data: [DONE]\n\n") + LAST_CHUNK

ARTIFACT_CHUNKS = EVENTS - 3
"""Of an A2A stream: before them come the task and that it is worked on, after them that it is completed."""
SLOW_EVENT_GAP_S = 0.2
"""Of the agent `slow`, whose streams last long enough for a thousand of them to be open at once."""

JOINED = 64 * 1024
"""Shorter answers are cheaper in one write, longer ones without the copy."""
RPC_HEAD = b'{"jsonrpc":"2.0","id":%b,"result":'
"""What stands before and behind a JSON-RPC id."""
MCP_RESULTS = {
    "tools/call": encode(TOOL_RESULT) + b"}",
    "tools/list": encode(LISTED) + b"}",
    "server/discover": encode(DISCOVERED) + b"}",
}
TASK_TEXT = TEXT[:450]
TASK = encode(
    {
        "task": {
            "id": "TASK",
            "contextId": "CONTEXT",
            "status": {"state": "TASK_STATE_COMPLETED", "timestamp": "2026-11-22T10:00:00Z"},
            "artifacts": [{"artifactId": "answer", "name": "answer", "parts": [{"text": TASK_TEXT}]}],
        }
    }
)
TASK_RESULT = TASK.replace(b"TASK", b"%b", 1).replace(b"CONTEXT", b"%b", 1) + b"}"
UNKNOWN_METHOD = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32601,"message":"Method not found"}}'


def task_events() -> list[bytes]:
    """The events of a stream as a2a-sdk's agents write them; to be filled in: `task`, `context`, and `rpc`, the request's id."""
    ids = {"taskId": "%(task)b", "contextId": "%(context)b"}
    said = {"messageId": "message-1", **ids, "role": "ROLE_USER", "parts": [{"text": TEXT[:300]}]}
    task = {
        "id": "%(task)b",
        "contextId": "%(context)b",
        "status": {"state": "TASK_STATE_SUBMITTED"},
        "history": [said],
    }
    events: list[dict[str, Any]] = [{"task": task}, {"statusUpdate": ids | {"status": status("WORKING")}}]
    for number in range(ARTIFACT_CHUNKS):
        artifact = {"artifactId": "answer", "name": "Answer", "parts": [{"text": f"word{number} "}]}
        flags = {"append": True} if number else {}
        flags |= {"lastChunk": True} if number == ARTIFACT_CHUNKS - 1 else {}
        events.append({"artifactUpdate": {**ids, "artifact": artifact, **flags}})
    events.append({"statusUpdate": ids | {"status": status("COMPLETED")}})
    return [
        b'data: {"result": %b, "id": %%(rpc)b, "jsonrpc": "2.0"}\r\n\r\n' % json.dumps(one).encode() for one in events
    ]


def status(state: str) -> dict[str, str]:
    """A TaskStatus."""
    return {"state": f"TASK_STATE_{state}", "timestamp": "2026-11-22T10:00:00.123456Z"}


TASK_EVENTS = task_events()


class Call(msgspec.Struct):
    """What is read of a JSON-RPC request."""

    method: str = ""
    id: msgspec.Raw = msgspec.Raw(b"null")


read_call = msgspec.json.Decoder(Call).decode
find_length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
numbers = count(1)


def agent_card(url: str) -> bytes:
    """The card of an agent, A2A 1.0."""
    return encode(
        {
            "name": "Bench agent",
            "description": "Answers at once",
            "version": "1",
            "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
            "capabilities": {"streaming": True, "pushNotifications": False},
            "defaultInputModes": ["text/plain"],
            "defaultOutputModes": ["text/plain"],
            "skills": [{"id": "answer", "name": "Answer", "description": "Answers", "tags": ["bench"]}],
        }
    )


def fresh_id(kind: int) -> bytes:
    """An id that was never given before, as long as a UUID."""
    return b"%08x-0000-4000-8000-%012x" % (kind, next(numbers))


def mcp_answer(head: bytes, body: bytes) -> tuple[bytes, ...]:
    """Answer one MCP request of revision 2026-07-28, or a proxied one that is older."""
    call = read_call(body)
    result = MCP_RESULTS.get(call.method)
    if call.method == "tools/list" and head.startswith(b"POST /mcp/"):
        first = int(head[len(b"POST /mcp/") : head.index(b" HTTP/")]) * TOOLS_EACH
        tools = [tool(number, width=4) for number in range(first, first + TOOLS_EACH)]
        result = encode(LISTED | {"tools": tools}) + b"}"
    if result is None:
        return (answer(UNKNOWN_METHOD % bytes(call.id), b"404 Not Found"),)
    opening = RPC_HEAD % bytes(call.id)
    head = OK_HEAD % (len(opening) + len(result)) + opening
    return (head + result,) if len(result) < JOINED else (head, result)


def a2a_answer(body: bytes) -> bytes | list[bytes]:
    """Answer one A2A 1.0 request, whole or as events: every message makes a task of its own.

    0.3's streaming method is answered too, in 1.0: a proxy that does not translate passes it on.
    """
    call = read_call(body)
    if call.method == "SendMessage":
        return answer(RPC_HEAD % bytes(call.id) + TASK_RESULT % (fresh_id(1), fresh_id(2)))
    if call.method in {"SendStreamingMessage", "message/stream"}:
        names = {b"task": fresh_id(1), b"context": fresh_id(2), b"rpc": bytes(call.id)}
        return [framed(event % names) for event in TASK_EVENTS]
    return answer(UNKNOWN_METHOD % bytes(call.id))


class Upstream(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self._loop = loop
        self._origin = f"http://127.0.0.1:{port}"
        self._read = b""

    def connection_made(self, transport: Any) -> None:
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        self._read = data = self._read + data if self._read else data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = find_length(data, 0, end)
        if length is None:
            self._read = b""
            path, found, _ = data.removeprefix(b"GET ").partition(b"/.well-known/agent-card.json ")
            self._write(answer(agent_card(self._origin + path.decode())) if found else NOT_FOUND)
        elif len(data) >= end + int(length[1]):
            self._read = b""
            self._answer(data[:end], data[end:])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /mcp"):
            for part in mcp_answer(head, body):
                self._write(part)
        elif head.startswith(b"POST /a2a/"):
            answered = a2a_answer(body)
            if isinstance(answered, bytes):
                self._write(answered)
            else:
                self._write(STREAM_HEAD)
                gap_s = SLOW_EVENT_GAP_S if head.startswith(b"POST /a2a/slow ") else EVENT_GAP_S
                self._stream(answered, LAST_CHUNK, gap_s)
        elif head.startswith(b"POST /long/"):
            self._write(STREAM_HEAD)
            self._stream(long_answers.ANSWERS[head.split(b" ", 2)[1]], LAST_CHUNK, long_answers.GAP_S)
        elif not head.startswith(b"POST /v1/chat/completions"):
            self._write(NOT_FOUND)
        elif WRONG_KEY.encode() in head:
            self._write(REFUSAL_ANSWER)
        else:
            self._chat(body)

    def _chat(self, body: bytes) -> None:
        is_calling = b'"bench__tool_007"' in body and body.count(b'"role":"tool"') < TOOL_ROUNDS
        if b'"stream":true' in body:
            self._write(STREAM_HEAD)
            events = CALLING_EVENTS if is_calling else STREAM_EVENTS
            self._stream(events, STREAM_USAGE + STREAM_END if b'"include_usage":true' in body else STREAM_END)
        else:
            self._write(CALLING_ANSWER if is_calling else CHAT_ANSWER)

    def _stream(self, events: list[bytes], end: bytes, gap_s: float = EVENT_GAP_S, *, sent: int = 0) -> None:
        if sent == len(events):
            self._write(end)
            return
        self._write(events[sent])
        self._loop.call_later(gap_s, partial(self._stream, events, end, gap_s, sent=sent + 1))


async def serve() -> None:
    """Serve on a free port, told as the first line of the output."""
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = listening.getsockname()[1]
    server = await loop.create_server(lambda: Upstream(loop, port), sock=listening, backlog=2048)
    print(port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
