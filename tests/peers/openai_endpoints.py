"""A fake of OpenAI's platform beside chat, written from its API reference: embeddings, images, audio and the like.

Real ones need a key. It keeps files, batches and vector stores in memory and records what it received. Forms are read
with python-multipart, by Starlette: another reader than the hub's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.conftest import served

VECTOR = [0.25, -0.5, 1.0]
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256)) * 64
MODELS = {"up-1", "up-2"}
USED = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    """Decoded JSON, or a form's plain fields."""
    files: dict[str, tuple[str | None, str | None, int, str]] = field(default_factory=dict)
    """Of a form: file name, media type, size and SHA-256."""


@dataclass
class Endpoints:
    """The service."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    stores: dict[str, dict[str, Any]] = field(default_factory=dict)
    attached: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """The files of each vector store."""
    platform: Any = None
    """`tests.peers.openai_platform.Platform`."""
    answer: Response | None = None
    """Given in the place of the next answer."""
    vector: Callable[[str], list[float]] = lambda _text: VECTOR
    """The embedding of a text."""

    async def take(self, request: Request) -> Seen:
        """Read a request and record it."""
        seen = Seen(request.method, request.url.path.removeprefix("/v1"), dict(request.headers))
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            form: FormData = await request.form()
            seen.body = {}
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    digest, size = hashlib.sha256(), 0
                    while piece := await value.read(1 << 20):
                        digest.update(piece)
                        size += len(piece)
                    seen.files[name] = (value.filename, value.content_type, size, digest.hexdigest())
                    await value.seek(0)
                    if size < 1 << 20:
                        self.contents["last"] = await value.read()
                else:
                    seen.body[name] = value
            await form.close()
        elif raw := await request.body():
            seen.body = json.loads(raw)
        self.seen.append(seen)
        return seen

    def model_is_known(self, seen: Seen) -> bool:
        return seen.body.get("model") in MODELS


def error(status: int, message: str, **members: Any) -> JSONResponse:
    return JSONResponse(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **members}}, status
    )


def _embeddings(body: dict[str, Any], vector: Callable[[str], list[float]]) -> Response:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vectors: list[Any] = [vector(text) for text in texts]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(one)}f", *one)).decode() for one in vectors]
    data = [{"object": "embedding", "index": n, "embedding": one} for n, one in enumerate(vectors)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return JSONResponse({"object": "list", "data": data, "model": body["model"], "usage": usage})


def _images(body: dict[str, Any]) -> Response:
    if body.get("stream") in (True, "true"):
        events = [
            {"type": "image_generation.partial_image", "b64_json": "cGFydA==", "partial_image_index": 0},
            {"type": "image_generation.completed", "b64_json": "d2hvbGU=", "usage": USED},
        ]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        return StreamingResponse(_each(lines), media_type="text/event-stream")
    return JSONResponse({"created": 1, "data": [{"b64_json": "d2hvbGU="}], "usage": USED})


def _speech(body: dict[str, Any]) -> Response:
    return StreamingResponse(_each([WAV[:5000], WAV[5000:]]), media_type="audio/wav")


def _transcriptions(body: dict[str, Any]) -> Response:
    if body.get("stream") == "true":
        events = [
            {"type": "transcript.text.delta", "delta": "he"},
            {"type": "transcript.text.done", "text": "hello", "usage": {"type": "tokens", **USED}},
        ]
        return StreamingResponse(
            _each([f"data: {json.dumps(event)}\n\n".encode() for event in events]), media_type="text/event-stream"
        )
    if body.get("response_format") == "srt":
        return Response("1\n00:00:00,000 --> 00:00:01,000\nhello\n", media_type="text/plain")
    return JSONResponse({"text": "hello", "usage": {"type": "tokens", **USED}})


def _moderations(body: dict[str, Any]) -> Response:
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return JSONResponse({"id": "modr-1", "model": body["model"], "results": [result]})


def _rerank(body: dict[str, Any]) -> Response:
    results = [{"index": n, "relevance_score": 0.5} for n, _ in enumerate(body["documents"])]
    return JSONResponse({"id": "r", "results": results, "usage": {"total_tokens": 6}})


def _completions(body: dict[str, Any]) -> Response:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}
    if body.get("stream"):
        choice = {"index": 0, "logprobs": None, "finish_reason": None}
        chunks = [{**head, "choices": [{**choice, "text": text}]} for text in ("one ", "two")]
        lines = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
        return StreamingResponse(_each([*lines, b"data: [DONE]\n\n"]), media_type="text/event-stream")
    choices = [{"text": "one two", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    return JSONResponse({**head, "choices": choices, "usage": usage})


def _chat(body: dict[str, Any]) -> Response:
    message = {"role": "assistant", "content": "hi", "refusal": None}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
    return JSONResponse({**head, "choices": choices})


def _responses(body: dict[str, Any]) -> Response:
    text = {"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": body["model"]}
    more = {"error": None, "incomplete_details": None, "parallel_tool_calls": True, "tool_choice": "auto"}
    output: list[dict[str, Any]] = [message]
    if any(tool.get("container") == {"type": "auto"} for tool in body.get("tools", [])):
        run = {"id": "ci_1", "code": "1", "container_id": "cntr_up", "outputs": None, "status": "completed"}
        output.insert(0, {"type": "code_interpreter_call", **run})
    return JSONResponse({**head, **more, "tools": body.get("tools", []), "output": output, "usage": None})


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


ANSWERS: dict[str, Callable[[dict[str, Any]], Response]] = {
    "/chat/completions": _chat,
    "/responses": _responses,
    "/completions": _completions,
    "/moderations": _moderations,
    "/rerank": _rerank,
    "/images/generations": _images,
    "/images/edits": _images,
    "/images/variations": _images,
    "/audio/speech": _speech,
    "/audio/transcriptions": _transcriptions,
    "/audio/translations": _transcriptions,
}


@asynccontextmanager
async def openai_endpoints() -> AsyncIterator[Endpoints]:
    """Serve the fake on a free port."""
    fake = Endpoints()
    answers = {**ANSWERS, "/embeddings": lambda body: _embeddings(body, fake.vector)}

    async def passed(request: Request) -> Response:
        seen = await fake.take(request)
        if fake.answer is not None:
            answer, fake.answer = fake.answer, None
            return answer
        if not fake.model_is_known(seen):
            return error(404, f"The model {seen.body.get('model')!r} does not exist", code="model_not_found")
        return answers[seen.path](seen.body)

    from tests.peers.openai_platform import Platform

    fake.platform = Platform(fake)
    routes = [Route(f"/v1{path}", passed, methods=["POST"]) for path in answers]
    routes += fake.platform.routes
    async with served(Starlette(routes=routes)) as url:
        fake.url = f"{url}/v1"
        yield fake
