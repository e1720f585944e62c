"""The hub inside a Python program: the same parts, gate and usage as `hubbub serve`, without a server."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from agents.bridges.kinds import fault
from agents.speech import Ask
from hub import mcp_tools, settings
from hub.record import Collected, Record, Streamed, record
from hub.services import Services, open_services
from llm import router
from llm.providers.table import NAMES
from llm.rounds import Caller
from registry.declared.config import Declared, read
from registry.entries import Model
from registry.errors import InvalidRequest, NotFound, Unauthenticated
from registry.identity import Principal, admin
from registry.judged import encode
from registry.sealed.secrets import digest

PUBLIC_URL = "http://127.0.0.1:4000"
"""What a hub that nobody can reach calls itself."""

_OF_ENTRIES = frozenset({"api_key", "api_base", "base_url", "custom_llm_provider"})
"""What other libraries take with each call; passed on, a provider would be shown it."""


class Hub:
    """An open hub. Made by `Hub.open`; safe to use from several tasks of one event loop.

    Errors are `registry.errors.HubError`s, with a text for whoever can do something about them.
    """

    def __init__(self, services: Services, principal: Principal) -> None:
        self._services = services
        self._principal = principal
        self._streams: set[Streamed] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: str | Path | Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> AsyncIterator[Hub]:
        """Open what hub.yaml, or a mapping of its shape, declares.

        None: every provider whose key the environment holds, as models called `provider/model`; nothing is kept. Calls are made with the
        grants of `key`, which the hub must know; without one, as the administrator.

        Raises:
            ConfigInvalid: with every fault of the file.
            Unauthenticated: the hub does not know the key.
        """
        declared = settings.load(Path(config)) if isinstance(config, str | Path) else _declared(config)
        with ExitStack() as stack:
            if not isinstance(config, str | Path) and "database" not in (config or {}).get("hub", {}):
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hubbub-"))
                declared = _kept_in(directory, declared)
            async with _opened(declared) as services:
                hub = cls(services, await _principal(services, key))
                await asyncio.gather(*(services.greet(name) for name in services.registry.catalog.servers))
                try:
                    yield hub
                finally:
                    await hub._end_streams()

    async def _end_streams(self) -> None:
        for stream in list(self._streams):
            await stream.aclose()

    @overload
    async def chat(
        self, *, model: str, messages: Sequence[Any], stream: Literal[False] = False, **members: Any
    ) -> Record: ...

    @overload
    async def chat(
        self, *, model: str, messages: Sequence[Any], stream: Literal[True], **members: Any
    ) -> AsyncIterator[Record]: ...

    @overload
    async def chat(
        self, *, model: str, messages: Sequence[Any], stream: bool, **members: Any
    ) -> Record | AsyncIterator[Record]: ...

    async def chat(
        self, *, model: str, messages: Sequence[Any], stream: bool = False, **members: Any
    ) -> Record | AsyncIterator[Record]:
        """Ask a model, as `POST /v1/chat/completions` does: `members` are those of OpenAI's request, and `hub`.

        Tools of `type: mcp` are the hub's, and run here. With `stream` the chunks come as they are made; leaving the
        iteration ends the request.

        Raises:
            HubError: as the door says it; within a stream, while it is read.
        """
        if misplaced := sorted(_OF_ENTRIES & members.keys()):
            raise InvalidRequest(
                f"{misplaced[0]} is said by the environment, or by the model's entry: Hub.open({{'models': …}})"
            )
        asked = {"model": model, "messages": messages, **{k: v for k, v in members.items() if v is not None}}
        caller = Caller(self._principal, f"req_{uuid.uuid4().hex}")
        if not stream:
            whole = Collected()
            await self._services.llm.chat.answer(encode(asked), caller, whole)
            return record(whole.body)
        body = encode({**asked, "stream": True})
        streamed = Streamed(lambda sink: self._services.llm.chat.answer(body, caller, sink))
        self._streams.add(streamed)
        await streamed.begin()
        return self._chunks(streamed)

    async def _chunks(self, streamed: Streamed) -> AsyncIterator[Record]:
        try:
            async for chunk in streamed:
                yield chunk
        finally:
            self._streams.discard(streamed)
            await streamed.aclose()

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> Record:
        """Call a tool by the name that `list_tools` has, and return MCP's CallToolResult.

        Raises:
            HubError: the call cannot be made. What the tool itself says went wrong is a result with `isError`.
        """
        await self._services.tools.prepare(self._principal, (None,), named=name)
        return record(encode(await self._services.tools.call(self._principal, name, arguments=dict(arguments or {}))))

    async def send_message(
        self,
        agent: str,
        message: str | Mapping[str, Any],
        *,
        context_id: str | None = None,
        task_id: str | None = None,
    ) -> Record:
        """Say something to an agent, and return its A2A 1.0 answer when it has one: `{"task": …}` or `{"message": …}`.

        `message` is a text, or a Message of A2A 1.0; `context_id` and `task_id` go on with what was said before.

        Raises:
            HubError: there is no such agent, the context or task is not the caller's, or the agent failed.
        """
        services = self._services
        entry = services.registry.catalog.agents.get(agent)
        if entry is None:
            raise NotFound("agent", agent)
        said: dict[str, Any] = {"parts": [{"text": message}]} if isinstance(message, str) else dict(message)
        said = {"role": "ROLE_USER", "messageId": uuid.uuid4().hex, **said}
        said |= {"contextId": context_id} if context_id else {}
        said |= {"taskId": task_id} if task_id else {}
        with services.gate.admit(self._principal, entry, request_id=f"req_{uuid.uuid4().hex}") as permit:
            heard = await services.agents.ask(permit, entry, Ask(operation="SendMessage", params={"message": said}))
        return record(encode(heard.result))

    def list_models(self) -> list[str]:
        """The names of models that may be used; one that ends in `*` stands for all that begin so."""
        return list(router.listing(self._services.registry.catalog.models, self._principal))

    def list_agents(self) -> list[str]:
        """The names of agents that may be called."""
        agents = self._services.registry.catalog.agents
        return [name for name in agents if self._principal.grants.allow("agent", name)]

    def list_tools(self, format: mcp_tools.Format = "mcp") -> list[Record]:  # noqa: A002  # as load_mcp_tools calls it
        """The tools that may be called, as MCP, OpenAI or Anthropic describe tools."""
        offered = self._services.tools.offered(self._principal, None)
        return [
            record(encode(mcp_tools.described(tool.exposed, tool.description, tool.input_schema, format=format)))
            for tool in offered
        ]


@asynccontextmanager
async def _opened(declared: Declared) -> AsyncIterator[Services]:
    """The services, open in a task of their own: what the block raises comes out as it is, in no group of exceptions."""
    opened: asyncio.Future[Services] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def keep() -> None:
        public_url, environment = declared.hub.public_url or PUBLIC_URL, settings.environment()
        async with open_services(declared, public_url=public_url, environment=environment) as services:
            opened.set_result(services)
            await over.wait()

    keeping = asyncio.create_task(keep())
    try:
        first: set[asyncio.Future[Any]] = {opened, keeping}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if opened.done():
            yield opened.result()
    finally:
        over.set()
        await keeping


async def _principal(services: Services, key: str | None) -> Principal:
    if key is None:
        return admin()
    found = await services.keys.find(digest(key.encode()))
    if found is None:
        raise Unauthenticated
    return found


def _declared(config: Mapping[str, Any] | None) -> Declared:
    if config is None:
        return Declared(models=_models(settings.environment()))

    def beside(name: str) -> str:
        return Path(name).expanduser().read_text(encoding="utf-8")

    environ = settings.environment()
    return read(
        json.dumps(config), file="config", environ=environ, read_file=beside, providers=NAMES, bridge_fault=fault
    )


def _kept_in(directory: str, declared: Declared) -> Declared:
    """The same with its state in `directory`."""
    keys = declared.hub.secret_keys or (secrets.token_urlsafe(32),)
    return replace(declared, hub=replace(declared.hub, database=f"sqlite:///{directory}/hub.db", secret_keys=keys))


def _models(environ: Mapping[str, str]) -> dict[str, Model]:
    """Every provider under its own name. Where it is may be said by a variable, as OPENAI_BASE_URL for OpenAI's SDK."""
    found = {}
    for provider in NAMES:
        variable = f"{provider.upper().replace('-', '_')}_BASE_URL"
        found[f"{provider}/*"] = Model(
            name=f"{provider}/*", provider=provider, model="*", base_url=environ.get(variable) or None
        )
    return found
