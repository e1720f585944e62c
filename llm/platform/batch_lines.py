"""The input file of a batch, judged line by line as it passes: each line is a request, and is treated as one."""

from __future__ import annotations

from collections.abc import AsyncIterator

from llm.expected import largest_answer
from llm.platform import references
from llm.platform.references import Change
from llm.wire.meter import BYTES_PER_TOKEN
from registry import judged
from registry.errors import CallerError, InvalidRequest
from registry.judged import RawObject

MAX_LINE_BYTES = 32 * 1024 * 1024

URLS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/completions": "completions",
    "/v1/moderations": "moderations",
    "/v1/images/generations": "images/generations",
    "/v1/images/edits": "images/edits",
}
"""What a line may ask, and the format of its body."""

_SAYS = frozenset({"chat", "responses", "completions"})
_LINE = frozenset({"method", "url", "body"})
_BODY = frozenset({"model", "tools"})
_ELSEWHERE = ("previous_response_id", "conversation")
"""Members that name what the provider keeps, without the hub's word whose that is."""


class BatchLines:
    """A batch's input file under way. Each line must ask for the same model."""

    def __init__(self, data: AsyncIterator[bytes]) -> None:
        self._lines = _lines(data)
        self._number = 0
        self._first: bytes | None = None
        self._model = ""
        self._given = self._made = 0

    @property
    def uses(self) -> tuple[int, int]:
        """Tokens of input and of output that the lines until now may use, estimated."""
        return self._given, self._made

    async def model(self) -> str:
        """The model that the lines ask for; raises `InvalidRequest` if the first one cannot be read."""
        async for line in self._lines:
            self._first = line
            self._number = 1
            try:
                self._model = _judged(line)[2]
            except CallerError as error:
                raise _at(1, error) from None
            return self._model
        raise InvalidRequest("the file has no lines", member="file")

    async def written(self, upstream_model: str, change: Change) -> AsyncIterator[bytes]:
        """The lines anew, with the upstream's model and ids; call it after `model`."""
        assert self._first is not None, "the model is asked for first"
        yield self._written(self._first, upstream_model, change)
        async for line in self._lines:
            self._number += 1
            yield self._written(line, upstream_model, change)

    def _written(self, line: bytes, upstream_model: str, change: Change) -> bytes:
        try:
            top, body, model = _judged(line)
            if model != self._model:
                raise InvalidRequest(f"asks for {model[:80]!r}, the first one for {self._model[:80]!r}", member="model")
            endpoint = URLS[str(judged.read_string(top, "url"))]
            body = references.in_object(body, references.ASKED.get(endpoint, {}), change)
            self._count(judged.encode(body), endpoint)
            return judged.encode({**top, "body": {**body, "model": upstream_model}}) + b"\n"
        except CallerError as error:
            raise _at(self._number, error) from None

    def _count(self, body: bytes, endpoint: str) -> None:
        self._given += len(body) // BYTES_PER_TOKEN
        self._made += largest_answer(body) if endpoint in _SAYS else 0


def _judged(line: bytes) -> tuple[RawObject, RawObject, str]:
    """A line's members, those of its body, and its model."""
    top = judged.body(line, _LINE | _BODY | references.DECIDING)
    judged.check_spelling(top, _LINE)
    url = judged.read_string(top, "url")
    if url not in URLS:
        raise InvalidRequest(f"url must be one of {', '.join(URLS)}", member="url")
    if judged.read_string(top, "method") != "POST":
        raise InvalidRequest("method must be POST", member="method")
    if "body" not in top:
        raise InvalidRequest("body is missing", member="body")
    body = judged.read_object(top["body"], "body")
    judged.check_spelling(body, _BODY)
    model = judged.read_string(body, "model")
    if not model:
        raise InvalidRequest("model is missing", member="model")
    if given := [name for name in _ELSEWHERE if name in body and bytes(body[name]) != b"null"]:
        raise InvalidRequest(f"{given[0]} cannot be used in a batch here", member=given[0])
    tools = judged.decode(body["tools"]) if "tools" in body else None
    if isinstance(tools, list) and any(isinstance(tool, dict) and tool.get("type") == "mcp" for tool in tools):
        raise InvalidRequest("tools of type mcp cannot be used in a batch: it runs at the provider", member="tools")
    return top, body, model


def _at(number: int, error: CallerError) -> InvalidRequest:
    return InvalidRequest(f"line {number}: {error.text}", member="file")


async def _lines(data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines that hold something, whole."""
    held: list[bytes] = []
    size = 0
    async for piece in data:
        first, *whole = piece.split(b"\n")
        held.append(first)
        size += len(first)
        for begun in whole:
            if (line := b"".join(held)).strip():
                yield line
            held, size = [begun], len(begun)
        if size > MAX_LINE_BYTES:
            raise InvalidRequest(f"a line is larger than {MAX_LINE_BYTES} bytes", member="file")
    if (line := b"".join(held)).strip():
        yield line
