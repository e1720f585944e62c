"""Services that speak no format of the hub's, by any-llm-sdk (extra `any-llm`): its answers are chat completions.

Nothing of it is imported before the first call. It brings connections of its own, past the hub's way out, so it only goes
where the operator wrote or where its own code goes (docs/decisions/0023-any-llm-as-an-extra.md).
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any

from llm.ports import ModelRequest
from llm.providers import failures
from llm.providers.rows.sdks import ROWS, Sdk
from llm.wire.chat import DONE, event
from registry.egress.http import Deadlines
from registry.entries import Model
from registry.errors import (
    ContentFiltered,
    ContextTooLong,
    HubError,
    UnsupportedParameters,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from registry.gate import Permit
from registry.judged import JsonObject, decode, encode

MAX_CLIENTS = 64

TAKEN = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "seed",
        "service_tier",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
    }
)
"""Members of a chat request that any-llm-sdk has a parameter for; what else it is given it hands to the service's SDK."""


class AnyLLM:
    """Every row of `rows.sdks`. `keys` are the values of their variables, by variable."""

    def __init__(self, *, keys: Mapping[str, str], deadlines: Deadlines) -> None:
        self._keys = keys
        self._deadlines = deadlines
        self._client = lru_cache(maxsize=MAX_CLIENTS)(self._create)

    @asynccontextmanager
    async def call(self, permit: Permit, model: Model, request: ModelRequest) -> AsyncIterator[SdkAnswer]:
        """Send one request (llm.ports.Provider).

        Raises:
            UpstreamUnavailable: it is not installed, or the entry cannot be called as it is configured.
            UnsupportedParameters: any-llm-sdk or the service lacks something of the request.
            UpstreamRejected, UpstreamLimited, UpstreamRefused, UpstreamTimeout: as the names say.
        """
        sdk = ROWS[model.provider]
        _check(model, sdk)
        if permit.due:
            await permit.reserve()
        permit.use()
        loop = asyncio.get_running_loop()
        try:
            # its imports take seconds, so a thread does them
            client, fault = await loop.run_in_executor(None, self._client, sdk, model.base_url, self._key(model))
        except (ImportError, _Unusable) as unusable:
            permit.missed()
            raise UpstreamUnavailable(model.name, _advice(model, sdk, unusable)) from None
        answer = SdkAnswer(model, fault, secrets=self.secrets(model), idle_s=self._deadlines.stream_idle_s)
        async with _ended(answer):
            async with asyncio.timeout(self._deadlines.first_byte_s) as waiting:
                try:
                    await answer.begin(client, decode(request.body))
                except TimeoutError:
                    if not waiting.expired():
                        raise
                    raise UpstreamTimeout(model.name, "its answer did not begin in time") from None
            yield answer

    def secrets(self, model: Model) -> Sequence[str]:
        """What no text of the provider may show (llm.ports.Provider)."""
        return tuple(text for text in (self._key(model), model.base_url) if text)

    def _key(self, model: Model) -> str | None:
        variable = ROWS[model.provider].key_variable
        return model.api_key or (self._keys.get(variable) if variable else None)

    def _create(self, sdk: Sdk, base_url: str | None, key: str | None) -> tuple[Any, type[Exception]]:
        """any-llm-sdk's client and the class of its errors; raises `ImportError` and `_Unusable`."""
        any_llm = importlib.import_module("any_llm")
        fault: type[Exception] = importlib.import_module("any_llm.exceptions").AnyLLMError
        options: dict[str, object] = {argument: self._keys.get(variable) for argument, variable in sdk.options}
        try:
            retries = any_llm.AnyLLM.get_provider_class(sdk.name).MAX_RETRIES_SUPPORT
            options |= {"max_retries": 0} if retries != "unsupported" else {}
            given = {name: value for name, value in options.items() if value is not None}
            client = any_llm.AnyLLM.create(sdk.name, api_key=key, api_base=base_url, unified_exceptions=True, **given)
        except fault as error:
            raise _Unusable(getattr(error, "env_var_name", None) or sdk.key_variable or sdk.note) from None
        return client, fault


class _Unusable(Exception):
    """It cannot sign in; the text is the variable to set."""


class SdkAnswer:
    """One answer of any-llm-sdk, in the bytes of chat completions (llm.ports.ModelAnswer)."""

    def __init__(self, model: Model, fault: type[Exception], *, secrets: Sequence[str], idle_s: float) -> None:
        self._model = model
        self._fault = fault
        self._secrets = secrets
        self._idle_s = idle_s
        self._whole: Any = None
        self._stream: Any = None
        self._first: Any = None

    async def begin(self, client: Any, asked: JsonObject) -> None:
        """Send the request and wait for the answer, or the first chunk of one that streams."""
        name = asked.pop("model")
        asked = {member: value for member, value in asked.items() if value is not None}
        while True:
            try:
                found = await self._send(client, name, asked)
                break
            except UnsupportedParameters as lacking:  # each turn leaves one out
                if not self._model.drop_params or asked.pop(lacking.member or "", None) is None:
                    raise
        if asked.get("stream"):
            self._stream = aiter(found)
            self._first = await self._next()
        else:
            self._whole = found

    async def _send(self, client: Any, name: str, asked: JsonObject) -> Any:
        if unknown := [member for member in asked if member not in TAKEN]:
            raise UnsupportedParameters(self._model.name, self._model.provider, unknown)
        with self._mapped():
            try:
                return await client.acompletion(model=name, **asked)
            except (
                ValueError
            ) as error:  # of pydantic's, about the request; what the service says has a class of its own
                message = failures.clean(str(error), self._secrets)
                raise UpstreamRejected(self._model.name, 400, failures.described(message)) from None

    async def read(self) -> bytes:
        """The whole answer."""
        return encode(_completion(self._whole))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer's event stream."""
        chunk = self._first
        while chunk is not None:
            yield event(_completion(chunk))
            try:
                async with asyncio.timeout(self._idle_s):
                    chunk = await self._next()
            except TimeoutError:
                raise UpstreamTimeout(self._model.name, "its answer stopped") from None
        yield DONE

    async def aclose(self) -> None:
        """End what is under way."""
        if self._stream is not None and hasattr(self._stream, "aclose"):
            await self._stream.aclose()

    async def _next(self) -> Any:
        with self._mapped():
            return await anext(self._stream, None)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except self._fault as error:
            raise _error(self._model, error, self._secrets) from None


@asynccontextmanager
async def _ended(answer: SdkAnswer) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await answer.aclose()


def _check(model: Model, sdk: Sdk) -> None:
    reason = None
    if model.headers:
        reason = f"provider {model.provider!r} is reached by an SDK, which sends no headers of the model's"
    elif model.base_url is not None and sdk.base_url == "never":
        reason = f"provider {model.provider!r} takes no base_url"
    elif model.base_url is None and sdk.base_url == "must":
        reason = f"provider {model.provider!r} needs the model's base_url"
    elif model.base_url is not None and not model.trusted:
        reason = f"provider {model.provider!r} is reached by an SDK, so a base_url of it can only stand in hub.yaml"
    if reason is not None:
        raise UpstreamUnavailable(model.name, reason)


def _advice(model: Model, sdk: Sdk, unusable: Exception) -> str:
    if isinstance(unusable, ImportError):
        return f"provider {model.provider!r} needs: pip install 'hubbub[any-llm]' 'any-llm-sdk[{sdk.name}]'"
    return f"it has no key; set {unusable} in the hub's environment"


def _error(model: Model, error: Any, secrets: Sequence[str]) -> HubError:
    """The hub's error for one of any-llm-sdk's, which are told apart by the names of their classes."""
    text = failures.clean(str(error.message), secrets)
    detail = failures.described(text) | {"type": error.error_type, "param": error.param, "code": error.code}
    kinds: dict[str, HubError] = {
        "RateLimitError": UpstreamLimited(model.name, failures.waiting(getattr(error, "retry_after", None)), text),
        "AuthenticationError": UpstreamRefused(model.name, error.status_code or 401),
        "InsufficientFundsError": UpstreamRefused(model.name, error.status_code or 402),
        "ContextLengthExceededError": ContextTooLong(model.name, detail),
        "ContentFilterError": ContentFiltered(model.name, detail),
        "ModelNotFoundError": UpstreamRejected(model.name, error.status_code or 404, detail),
        "GatewayTimeoutError": UpstreamTimeout(model.name, "the upstream took too long"),
    }
    found = kinds.get(type(error).__name__)
    if found is not None:
        return found
    if type(error).__name__ == "UnsupportedParameterError":
        return UnsupportedParameters(model.name, model.provider, [error.parameter_name])
    if type(error).__name__ == "InvalidRequestError" or error.status_code in failures.CALLERS_FAULT:
        return failures.rejection(model.name, error.status_code or 400, detail)
    return _failed(model, error.status_code)


def _failed(model: Model, status: int | None) -> UpstreamError:
    said = "" if status is None else f" (HTTP {status})"
    return UpstreamUnavailable(model.name, f"the upstream failed{said}")


def _completion(found: Any) -> JsonObject:
    """A completion or a chunk of any-llm-sdk as OpenAI's, with the members that clients count on."""
    said: JsonObject = found.model_dump(mode="json", exclude_none=True)
    for choice in said.get("choices", ()):
        choice.setdefault("finish_reason", None)
        if "message" in choice:
            choice["message"].setdefault("content", None)
    return said
