"""Endpoints of providers beside their chat: who has which, and one request to one of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from llm.providers.destination import Destinations
from llm.providers.openai import failure
from registry.egress.http import Egress, Incoming, Outgoing
from registry.entries import Model
from registry.errors import InvalidRequest, UpstreamUnavailable
from registry.gate import Permit

PASSED_THROUGH = frozenset(
    {
        "embeddings",
        "completions",
        "moderations",
        "rerank",
        "images/generations",
        "images/edits",
        "images/variations",
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
    }
)
"""Endpoints that one request with a `model` uses up."""

_KEPT = frozenset({"files", "batches", "vector_stores"})
_TEXT = frozenset({"embeddings", "completions"})
_HEARS = frozenset({"audio/transcriptions", "audio/translations"})

ENDPOINTS: Mapping[str, frozenset[str]] = {
    "openai": (PASSED_THROUGH | _KEPT) - {"rerank"},
    "azure": (PASSED_THROUGH | _KEPT) - {"rerank", "moderations", "images/variations"},
    "dashscope": frozenset({"embeddings", "files", "batches"}),
    "deepinfra": _TEXT | {"images/generations", "audio/speech", "audio/transcriptions"},
    "deepseek": frozenset({"completions"}),
    "fireworks": _TEXT | {"rerank"},
    "gemini": frozenset({"embeddings", "images/generations"}),
    "groq": _HEARS | {"audio/speech", "files", "batches"},
    "mistral": frozenset({"embeddings", "moderations", "audio/transcriptions", "files"}),
    "moonshot": frozenset({"files"}),
    "nebius": _TEXT | {"images/generations", "files", "batches"},
    "nvidia": frozenset({"embeddings"}),
    "openrouter": _TEXT,
    "sambanova": _HEARS | {"embeddings"},
    "scaleway": frozenset({"embeddings", "audio/transcriptions"}),
    "together": _TEXT | {"rerank", "images/generations", "audio/speech", "audio/transcriptions", "files", "batches"},
    "xai": frozenset({"images/generations"}),
    "llamacpp": _TEXT | {"rerank"},
    "lmstudio": _TEXT,
    "ollama": _TEXT,
    "vllm": _TEXT | _HEARS | {"rerank"},
    "openai_compatible": PASSED_THROUGH | _KEPT,  # it says itself what it lacks
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an endpoint."""

    method: str = "POST"
    path: str
    """Behind the provider's base URL, without a slash in front; with its query."""
    body: bytes | AsyncIterator[bytes] | None = None
    media_type: str = "application/json"


class Endpoints:
    """The providers' endpoints. `keys` are the values of the table's key variables, by variable."""

    def __init__(self, egress: Egress, *, keys: Mapping[str, str]) -> None:
        self._egress = egress
        self._destinations = Destinations(keys)

    def has(self, model: Model, endpoint: str) -> bool:
        """Whether the model's provider has the endpoint, such as `audio/speech`."""
        return endpoint in ENDPOINTS.get(model.provider, frozenset())

    def place(self, model: Model, endpoint: str) -> Model:
        """One of the model's deployments, by their weights, whose provider has the endpoint.

        Raises:
            InvalidRequest: none has it.
            UpstreamUnavailable: the entry cannot be called.
        """
        if model.unavailable is not None:
            raise UpstreamUnavailable(model.name, model.unavailable)
        able = [place for place in model.places() if self.has(place, endpoint)]
        if not able:
            raise InvalidRequest(
                f"{model.name} runs at provider {model.provider}, which has no /{endpoint}; name another model",
                member="model",
            )
        return random.choices(able, [place.weight for place in able])[0]  # noqa: S311  # no secret hangs on it

    @asynccontextmanager
    async def send(self, permit: Permit, model: Model, request: Request) -> AsyncIterator[Incoming]:
        """Send one request under an admitted permit; the answer is one of success.

        Raises:
            UpstreamError: no answer, or the provider's refusal; as `llm.providers.openai.failure`.
        """
        to = self._destinations.of(model)
        headers = tuple(header for header in to.headers if header[0].lower() != "content-type")
        if request.body is not None:
            headers = (("content-type", request.media_type), *headers)
        if request.path.startswith("vector_stores"):
            headers = (*headers, ("openai-beta", "assistants=v2"))
        outgoing = Outgoing(
            url=f"{to.base_url}/{request.path}",
            method=request.method,
            headers=headers,
            body=request.body,
            trusted=to.trusted,
        )
        async with self._egress.send(permit, outgoing) as incoming:
            if not 200 <= incoming.status < 300:
                raise await failure(model, incoming, secrets=to.secrets)
            yield incoming
