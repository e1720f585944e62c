"""Models behind OpenAI-compatible services: one POST through the way out, the provider's errors turned into the hub's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, NoReturn, Protocol

from llm.ports import ModelAnswer, ModelRequest
from llm.providers import failures
from llm.providers.destination import Destination, Destinations
from llm.types import Format
from registry.egress.http import Egress, Incoming, Outgoing
from registry.egress.sse import Framer, data_of
from registry.entries import Headers, Model
from registry.errors import UpstreamError, UpstreamInvalid
from registry.gate import Permit
from registry.identity import Principal

Show = Callable[[bytes], Awaitable[bytes]]
"""Puts the hub's ids into an answer, or an event of one."""


class Ids(Protocol):
    """Translates the ids of what providers keep: the hub's own, and theirs."""

    def sent(self, data: bytes, format: Format, place: Model, principal: Principal) -> bytes:  # noqa: A002  # as ModelRequest's
        """A request with the provider's own."""

    def shows(self, data: bytes, format: Format, place: Model, principal: Principal) -> Show | None:  # noqa: A002  # as above
        """What puts the hub's into the answer to a request; None: it holds none."""


ANTHROPIC_VERSION = ("anthropic-version", "2023-06-01")
"""Where the caller says none. 2026-10-21 differs in requests only: it refuses `temperature`, which chat has."""


def _headers(own: Headers, request: ModelRequest) -> Headers:
    """The entry's headers and the request's; where both say something of Anthropic's betas, all of them."""
    if request.format != "messages":
        return (*own, *request.headers) if request.headers else own
    sent = dict((ANTHROPIC_VERSION, *request.headers))
    for name, value in own:
        said = sent.pop(name.lower(), None)
        if said is not None and name.lower() == "anthropic-beta":
            sent["anthropic-beta"] = f"{value},{said}"
            own = tuple(header for header in own if header[0].lower() != "anthropic-beta")
    return (*own, *sent.items())


class OpenAICompatible:
    """Every row of the table. `keys` are the values of the table's key variables, by variable.

    `ids` are those of what providers keep for principals.
    """

    def __init__(self, egress: Egress, *, keys: Mapping[str, str], ids: Ids | None = None) -> None:
        self._egress = egress
        self._ids = ids
        self._destinations = Destinations(keys)

    def call(self, permit: Permit, model: Model, request: ModelRequest) -> Call:
        """Send one request (llm.ports.Provider).

        Raises, here or on entering:
            UpstreamUnavailable: the entry cannot be called as it is configured; the text says what to set.
            UpstreamRefused: the provider refused the hub's account.
            UpstreamRejected: the provider refused what the caller asked; ContextTooLong, ContentFiltered say why.
            UpstreamLimited, UpstreamOverloaded: the provider's rate limit; it has too much to do.
            UpstreamTimeout, UpstreamInvalid, AddressRefused: as the names say.
            NotFound, InvalidRequest: it mentions a file that is not the caller's, or that another provider keeps.
        """
        body, show = request.body, None
        if self._ids is not None:
            show = self._ids.shows(body, request.format, model, permit.principal)
            body = self._ids.sent(body, request.format, model, permit.principal)
        to = self._destinations.of(model)
        outgoing = Outgoing(
            url=to.urls[request.format] + request.path,
            headers=_headers(to.headers, request),
            body=body,
            trusted=to.trusted,
            may_stream=request.stream,
        )
        return Call(self._egress.send(permit, outgoing), model, to, stream=request.stream, show=show)

    async def probe(self, permit: Permit, model: Model) -> None:
        """Ask the service what models it has: it can be reached and takes the hub's key. Costs nothing.

        Raises as `call`. A service without such a list passes: it was reached.
        """
        to = self._destinations.of(model)
        outgoing = Outgoing(url=f"{to.base_url}/models", method="GET", headers=to.headers, trusted=to.trusted)
        async with self._egress.send(permit, outgoing) as incoming:
            if incoming.status >= 500 or incoming.status in {401, 402, 403}:
                raise await failure(model, incoming, secrets=to.secrets)

    def secrets(self, model: Model) -> Sequence[str]:
        """What no text of the provider may show (llm.ports.Provider)."""
        return self._destinations.of(model).secrets


class Call:
    """One request under way: enter to send it. A class: a generator's context costs more than the rest of the way."""

    __slots__ = ("_destination", "_model", "_sending", "_show", "_stream")

    def __init__(
        self,
        sending: AbstractAsyncContextManager[Incoming],
        model: Model,
        destination: Destination,
        *,
        stream: bool,
        show: Show | None = None,
    ) -> None:
        self._show = show
        self._sending = sending
        self._model = model
        self._destination = destination
        self._stream = stream

    async def __aenter__(self) -> ModelAnswer:
        incoming = await self._sending.__aenter__()
        try:
            expected = "text/event-stream" if self._stream else "application/json"
            if incoming.status != 200 or incoming.media_type != expected:
                await self._refuse(incoming, expected)
        except BaseException as error:
            await self._sending.__aexit__(type(error), error, error.__traceback__)
            raise
        return incoming if self._show is None else Shown(incoming, self._show)

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        return self._sending.__aexit__(kind, error, trace)

    async def _refuse(self, incoming: Incoming, expected: str) -> NoReturn:
        if incoming.status != 200:
            raise await failure(self._model, incoming, secrets=self._destination.secrets)
        raise UpstreamInvalid(self._model.name, f"its answer is not {expected}")


class Shown:
    """An answer with the hub's ids in it (llm.ports.ModelAnswer)."""

    def __init__(self, answer: ModelAnswer, show: Show) -> None:
        self._answer = answer
        self._show = show

    async def read(self) -> bytes:
        """The whole body."""
        return await self._show(await self._answer.read())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The event stream, in whole events; raises `EventTooLarge` for what is none."""
        framer = Framer()
        async for chunk in self._answer.chunks():
            for event in framer.feed(chunk):
                yield await self._shown(event)
        yield framer.rest

    async def _shown(self, event: bytes) -> bytes:
        data = data_of(event)
        shown = await self._show(data)
        if shown is data:
            return event
        others = [line for line in event.splitlines() if line and not line.startswith(b"data:")]
        return b"\n".join((*others, b"data: " + shown, b"\n"))


async def failure(model: Model, incoming: Incoming, *, secrets: Sequence[str]) -> UpstreamError:
    """Turn a provider's answer that is not of success into the hub's error."""
    retry_after = incoming.header(b"retry-after") or failures.seconds_of(incoming.header(b"retry-after-ms"))
    body = await incoming.read() if incoming.status < 500 else b""
    return failures.failure(model.name, incoming.status, body, retry_after=retry_after, secrets=secrets)
