"""Embeddings, images, audio and the like, asked with OpenAI's SDK of a real hub before a fake of OpenAI's platform."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.responses import Response, StreamingResponse

from tests.conftest import Hub, open_hub
from tests.peers.http_peer import always, listening
from tests.peers.openai_endpoints import USED, VECTOR, WAV, Endpoints, openai_endpoints
from tests.processes import hub_process

OpenHub = Callable[..., Any]


@asynccontextmanager
async def house(hub: OpenHub, *allow: str) -> AsyncIterator[tuple[Hub, openai.AsyncOpenAI, Endpoints]]:
    """A hub with models at the fake, and a client whose key may use what `allow` says."""
    async with openai_endpoints() as fake:
        where = f"base_url: '{fake.url}', api_key: sk-upstream-key-000"
        yaml = (
            "models:\n"
            f"  m: {{provider: openai, model: up-1, retries: 0, {where}}}\n"
            f"  any: {{provider: openai_compatible, model: up-2, {where}}}\n"
            f"  talker: {{provider: deepseek, model: up-1, {where}}}\n"
            "  offline: {provider: offline}\n"
        )
        async with hub(yaml) as running:
            secret = await running.key(*(allow or ("model:*",)))
            async with openai.AsyncOpenAI(
                base_url=f"{running.url}/v1", api_key=secret, max_retries=0, timeout=20
            ) as client:
                yield running, client, fake


def usage(running: Hub) -> list[tuple[str, int | None, int | None, bool]]:
    """What the model calls so far used."""
    return [
        (permit.entry_name, permit.usage.input_tokens, permit.usage.output_tokens, permit.usage.estimated)
        for permit in running.gate.permits
        if permit.kind == "model"
    ]


async def test_embeddings_come_in_the_format_asked_for_and_are_counted(hub: OpenHub) -> None:
    async with house(hub) as (running, client, fake):
        packed = await client.embeddings.create(model="m", input=["a", "b"])  # the SDK asks for base64 by itself
        assert [one.embedding for one in packed.data] == [VECTOR, VECTOR]
        plain = await client.embeddings.create(model="m", input="a", encoding_format="float")
        assert plain.data[0].embedding == VECTOR
        assert [(seen.body["model"], seen.body["encoding_format"]) for seen in fake.seen] == [
            ("up-1", "base64"),
            ("up-1", "float"),
        ]
        assert fake.seen[0].headers["authorization"] == "Bearer sk-upstream-key-000"
        assert usage(running) == [("m", 5, None, False)] * 2


async def test_only_the_model_of_a_json_body_is_changed(hub: OpenHub) -> None:
    async with house(hub) as (running, client, _fake), running.http(client.api_key) as http:
        for path in ("/v1/embeddings", "/embeddings"):
            answer = await http.post(path, json={"input": "x", "model": "m", "dimensions": 3})
            assert answer.status_code == 200
            assert answer.json()["model"] == "up-1"


async def test_images_are_made_whole_and_streamed(hub: OpenHub) -> None:
    async with house(hub) as (running, client, _fake):
        made = await client.images.generate(model="m", prompt="a cat")
        assert made.data is not None
        assert made.data[0].b64_json == "d2hvbGU="
        stream = await client.images.generate(model="m", prompt="a cat", stream=True, partial_images=1)
        kinds = [event.type async for event in stream]
        assert kinds == ["image_generation.partial_image", "image_generation.completed"]
        assert usage(running) == [("m", USED["input_tokens"], USED["output_tokens"], False)] * 2


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's word for the older endpoints
async def test_images_are_edited_and_varied_from_files(hub: OpenHub) -> None:
    async with house(hub) as (_running, client, fake):
        await client.images.edit(model="m", image=[b"one", b"two"], mask=b"mask", prompt="ein Bär", n=1)
        await client.images.create_variation(model="m", image=('ä "b.png', b"three", "image/png"))
        edit, variation = fake.seen
        assert edit.body == {"model": "up-1", "prompt": "ein Bär", "n": "1"}
        assert set(edit.files) == {"image[]", "mask"}
        assert variation.body == {"model": "up-1"}
        assert variation.files["image"] == ("ä %22b.png", "image/png", 5, hashlib.sha256(b"three").hexdigest())


async def test_speech_is_streamed_as_it_came(hub: OpenHub) -> None:
    async with (
        house(hub) as (_running, client, _fake),
        client.audio.speech.with_streaming_response.create(model="m", voice="alloy", input="hi") as answer,
    ):
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert await answer.read() == WAV


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_audio_is_transcribed_and_translated(hub: OpenHub) -> None:
    async with house(hub) as (running, client, fake):
        said = await client.audio.transcriptions.create(model="m", file=("a.wav", WAV, "audio/wav"))
        assert said.text == "hello"
        assert fake.seen[0].files["file"] == ("a.wav", "audio/wav", len(WAV), hashlib.sha256(WAV).hexdigest())
        stream = await client.audio.transcriptions.create(model="m", file=("a.wav", WAV), stream=True)
        assert [event.type async for event in stream] == ["transcript.text.delta", "transcript.text.done"]
        assert usage(running) == [("m", 7, 3, False)] * 2
        subtitles = await client.audio.translations.create(model="m", file=("a.wav", WAV), response_format="srt")
        assert "hello" in str(subtitles)


async def test_moderations_rerank_and_old_completions_pass(hub: OpenHub) -> None:
    async with house(hub) as (running, client, _fake), running.http(client.api_key) as http:
        judged = await client.moderations.create(model="m", input="hi there")
        assert judged.results[0].flagged is False
        done = await client.completions.create(model="m", prompt="x")
        assert done.choices[0].text == "one two"
        stream = await client.completions.create(model="m", prompt="x", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "one two"
        for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
            ranked = await http.post(path, json={"model": "any", "query": "q", "documents": ["a", "b"]})
            assert len(ranked.json()["results"]) == 2
        counted = usage(running)
        assert counted[0][3], "moderations say nothing of their usage, so it is estimated"
        assert counted[1] == ("m", 4, 2, False)
        assert counted[3:] == [("any", 6, None, False)] * 3


async def test_a_provider_without_the_endpoint_is_named(hub: OpenHub) -> None:
    async with house(hub) as (_running, client, fake):
        for model, provider in (("talker", "deepseek"), ("offline", "offline")):
            with pytest.raises(openai.BadRequestError, match=f"{provider}.*/embeddings"):
                await client.embeddings.create(model=model, input="x")
        assert fake.seen == []


async def test_what_a_key_may_not_use_is_as_absent_as_what_is_not_there(hub: OpenHub) -> None:
    async with house(hub, "model:other") as (_running, client, fake):
        for model in ("m", "talker", "nothing"):
            with pytest.raises(openai.NotFoundError) as refused:
                await client.embeddings.create(model=model, input="x")
            assert refused.value.code == "model_not_found"
            with pytest.raises(openai.NotFoundError):
                await client.audio.transcriptions.create(model=model, file=b"x")
        assert fake.seen == []


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", b'{"model":7}', b'{"model":"m","model":"any","input":""}', b'{"Model":"m","input":""}'],
)
async def test_a_json_body_that_cannot_be_judged_is_refused(hub: OpenHub, body: bytes) -> None:
    async with house(hub) as (running, client, fake), running.http(client.api_key) as http:
        answer = await http.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert fake.seen == []


def form(*parts: tuple[str, str], boundary: str = "b", end: str = "--b--\r\n") -> bytes:
    """A form by hand: the Content-Disposition's parameters and the data of each part."""
    text = "".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {about}\r\n\r\n{data}\r\n" for about, data in parts
    )
    return (text + end).encode()


async def posted(running: Hub, secret: str, body: Any, path: str = "/v1/audio/transcriptions") -> httpx.Response:
    async with running.http(secret) as http:
        return await http.post(path, content=body, headers={"content-type": "multipart/form-data; boundary=b"})


async def test_the_model_is_found_behind_the_file(hub: OpenHub) -> None:
    async with house(hub) as (running, client, fake):
        body = form(('name="file"; filename="x"', "data\r\n--ab"), ('name="model"', "m"), ('name="language"', "de"))
        answer = await posted(running, client.api_key, body)
        assert answer.json()["text"] == "hello"
        assert fake.seen[0].body == {"model": "up-1", "language": "de"}
        assert fake.seen[0].files["file"][2:] == (10, hashlib.sha256(b"data\r\n--ab").hexdigest())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (form(('name="model"', "m"), ('name="model"', "any"), ('name="file"; filename="x"', "d")), "twice"),
        (form(('name="model"', "m"), ('name="file"; filename="x"', "d"), ('name="model"', "any")), "twice"),
        (form(('name="model"', "m"), ('name="Model"', "any")), "write 'model'"),
        (form(('name="model"; filename="x"', "m")), "must be a field"),
        (form(('name="file"; filename="x"', "d")), "model is missing"),
        (form(('name="a"; name="model"', "m")), "cannot be read"),
        (form(("filename", "m")), "cannot be read"),
        (form(('filename="x"', "m")), "no name"),
        (form(('name="model"', "m"), end=""), "ends within"),
        (
            b"--b\r\nContent-Disposition: form-data; name=model\r\nContent-Transfer-Encoding: base64\r\n\r\nbQ==\r\n",
            "as they are",
        ),
        (b"--b" + b"x" * 100, "boundary"),
        (b"no form at all", "ends within"),
        (b"--b\r\n" + b"x" * 100_000, "too large"),
        (form(('name="prompt"', "x" * 2_000_000)), "larger than"),
        (form(*[('name="a"', "")] * 2000), "more than"),
        (form(('name="model"', "\xff"), end="--b--").replace("ÿ".encode(), b"\xff"), "must be a text"),
    ],
)
async def test_a_form_that_cannot_be_judged_is_refused(hub: OpenHub, body: bytes, said: str) -> None:
    async with house(hub) as (running, client, fake):
        answer = await posted(running, client.api_key, body)
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]
        assert fake.seen == []


async def test_a_form_without_boundary_is_refused(hub: OpenHub) -> None:
    async with house(hub) as (running, client, _fake), running.http(client.api_key) as http:
        answer = await http.post(
            "/v1/audio/transcriptions", content=b"x", headers={"content-type": "multipart/form-data"}
        )
        assert "boundary" in answer.json()["error"]["message"]


@pytest.mark.attack("2.1/25")
async def test_a_second_model_behind_a_large_file_ends_the_upload(hub: OpenHub) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield form(('name="model"', "m"), ('name="file"; filename="x"', ""), end="")[:-2]
        for _ in range(40):
            yield bytes(100_000)
        yield b"\r\n" + form(('name="model"', "any"))

    async with house(hub) as (running, client, fake):
        answer = await posted(running, client.api_key, body())
        assert (answer.status_code, "twice" in answer.text) == (400, True)
        assert fake.seen == [], "the provider never got the end of it"


async def test_a_large_file_passes_in_pieces_also_when_the_model_stands_behind_it(tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    piece = bytes(range(256)) * 1024

    async def body(*, model_first: bool) -> AsyncIterator[bytes]:
        model = form(('name="model"', "m"), end="")
        if model_first:
            yield model
        yield form(('name="file"; filename="x"', ""), end="")[:-2]
        for _ in range(size // len(piece)):
            yield piece
        yield b"\r\n" + (b"" if model_first else model) + b"--b--\r\n"

    digest = hashlib.sha256()
    for _ in range(size // len(piece)):
        digest.update(piece)
    async with openai_endpoints() as fake:
        yaml = (
            f"models:\n  m: {{provider: openai, model: up-1, base_url: '{fake.url}', api_key: sk-upstream-key-000}}\n"
        )
        async with hub_process(tmp_path, yaml) as process, process.http() as http:
            headers = {"content-type": "multipart/form-data; boundary=b"}
            small = form(('name="model"', "m"), ('name="file"; filename="x"', "x"))
            assert (await http.post("/v1/audio/transcriptions", content=small, headers=headers)).status_code == 200
            before = peak_bytes(process.child.pid)
            for model_first in (True, False):
                content = body(model_first=model_first)
                answer = await http.post("/v1/audio/transcriptions", content=content, headers=headers)
                assert answer.json()["text"] == "hello"
                assert fake.seen[-1].files["file"][2:] == (size, digest.hexdigest())
                assert fake.seen[-1].headers["transfer-encoding"] == "chunked"
            assert peak_bytes(process.child.pid) - before < 16 * 1024 * 1024
            assert "content-length" in fake.seen[0].headers, "a small form says how long it is"


def peak_bytes(pid: int) -> int:
    """The most memory that a process had (Linux)."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def test_an_upload_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with open_hub(
        tmp_path, "models:\n  m: {provider: openai}\n", setting="limits: {upload_bytes: 100000}"
    ) as hub:
        secret = await hub.key("model:*")
        body = form(('name="file"; filename="x"', "x" * 200_000))
        assert (await posted(hub, secret, body)).status_code == 413

        async def unknown() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 1000):
                yield body[start : start + 1000]

        assert (await posted(hub, secret, unknown())).status_code == 413


async def test_a_providers_refusal_and_failure_are_told_as_such(hub: OpenHub) -> None:
    async with house(hub) as (running, client, fake):
        fake.answer = Response(
            json.dumps({"error": {"message": f"too long for sk-upstream-key-000 at {fake.url}"}}), 400
        )
        with pytest.raises(openai.BadRequestError, match="too long") as refused:
            await client.embeddings.create(model="m", input="x")
        assert "sk-upstream" not in str(refused.value)
        assert "127.0.0.1" not in str(refused.value)
        fake.answer = Response("oops", 500)
        with pytest.raises(openai.InternalServerError):
            await client.embeddings.create(model="m", input="x")
        fake.answer = Response("slower", 429, {"retry-after": "7"})
        with pytest.raises(openai.RateLimitError) as limited:
            await client.embeddings.create(model="m", input="x")
        assert limited.value.response.headers["retry-after"] == "7"
        assert list(running.gate.outcomes.values()) == [["error"]] * 3


async def test_a_provider_that_is_down_or_talks_nonsense_is_named(hub: OpenHub) -> None:
    async with listening(always(b"nonsense", close=True)) as peer:
        yaml = (
            f"models:\n  odd: {{provider: openai, base_url: '{peer.url}v1', api_key: sk-upstream-key-000}}\n"
            "  down: {provider: openai, base_url: 'http://127.0.0.1:9/v1', api_key: sk-upstream-key-000}\n"
        )
        async with hub(yaml) as running, running.http(await running.key("model:*")) as http:
            for model in ("odd", "down"):
                answer = await http.post("/v1/embeddings", json={"model": model, "input": "x"})
                assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (502, model)
                file = {"file": ("x", b"x" * 3_000_000)}
                answer = await http.post("/v1/audio/transcriptions", data={"model": model}, files=file)
                assert answer.status_code == 502


@pytest.mark.parametrize("end", ["reported", "cut", "endless"])
async def test_a_stream_that_fails_ends_with_an_error_event(hub: OpenHub, end: str) -> None:
    first = b'data: {"type":"image_generation.partial_image","b64_json":"cGFydA==","partial_image_index":0}\n\n'

    async def pieces(fake: Endpoints) -> AsyncIterator[bytes]:
        yield first
        if end == "reported":
            text = f"overheated at {fake.url} with sk-upstream-key-000"
            yield f"data: {json.dumps({'type': 'error', 'error': {'message': text}})}\n\n".encode()
        elif end == "endless":
            for _ in range(20):
                yield b"x" * 1_000_000
        else:
            raise ConnectionAbortedError("as the script says")

    async with house(hub) as (running, client, fake):
        fake.answer = StreamingResponse(pieces(fake), media_type="text/event-stream")
        stream = await client.images.generate(model="m", prompt="x", stream=True)
        kinds = []
        with pytest.raises(openai.APIError) as failed:  # noqa: PT012
            async for event in stream:
                kinds.append(event.type)  # noqa: PERF401  # what came before it failed counts
        assert kinds == ["image_generation.partial_image"]
        assert {"reported": "overheated", "cut": "cut short", "endless": "not an event stream"}[end] in str(
            failed.value
        )
        assert "sk-upstream" not in str(failed.value)
        assert "127.0.0.1" not in str(failed.value)
        assert list(running.gate.outcomes.values()) == [["error"]]


async def test_another_deployment_answers_when_one_fails_or_lacks_the_endpoint(hub: OpenHub) -> None:
    async with openai_endpoints() as fake:
        yaml = (
            "models:\n  m:\n    model: up-1\n    deployments:\n"
            "      - {provider: deepseek, api_key: sk-upstream-key-000}\n"
            "      - {provider: openai, base_url: 'http://127.0.0.1:9/v1', api_key: sk-upstream-key-000}\n"
            f"      - {{provider: openai, base_url: '{fake.url}', api_key: sk-upstream-key-000}}\n"
            "  down:\n    provider: openai\n    base_url: http://127.0.0.1:9/v1\n    api_key: sk-upstream-key-000\n"
            "    fallbacks: [m]\n"
        )
        async with hub(yaml) as running:
            secret = await running.key("model:*")
            url = f"{running.url}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key=secret, max_retries=0, timeout=20) as client:
                for _ in range(8):
                    made = await client.embeddings.create(model="m", input="x", encoding_format="float")
                    assert made.data[0].embedding == VECTOR
                assert (await client.embeddings.create(model="down", input="x")).model == "up-1"
                fake.answer = Response(json.dumps({"error": {"message": "not this"}}), 400)
                with pytest.raises(openai.BadRequestError, match="not this"):
                    await client.embeddings.create(model="m", input="x")
        assert len([permit for permit in running.gate.permits if permit.kind == "model"]) == 10


@asynccontextmanager
async def two_places(hub: OpenHub, first: str = "") -> AsyncIterator[tuple[openai.AsyncOpenAI, Endpoints, Endpoints]]:
    """A model at two fakes, of which the first is asked first; `first` is its address, where it is not the fake's."""
    async with openai_endpoints() as here, openai_endpoints() as there:
        yaml = "models:\n  m:\n    model: up-1\n    routing: least_busy\n    deployments:\n" + "".join(
            f"      - {{provider: openai, base_url: '{url}', api_key: sk-upstream-key-000}}\n"
            for url in (first or here.url, there.url)
        )
        async with hub(yaml) as running:
            secret = await running.key("model:*")
            url = f"{running.url}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key=secret, max_retries=0, timeout=20) as client:
                yield client, here, there


def failing(status: int) -> Response:
    return Response(json.dumps({"error": {"message": "no"}}), status)


async def test_embeddings_are_asked_for_elsewhere_whatever_failed(hub: OpenHub) -> None:
    async with two_places(hub) as (client, here, there):
        for status in (500, 429, 401):
            here.answer, there.answer = failing(status), None
            for _ in range(2):
                made = await client.embeddings.create(model="m", input="x", encoding_format="float")
                assert made.data[0].embedding == VECTOR
        assert here.seen
        assert there.seen


@pytest.mark.parametrize("endpoint", ["images/generations", "images/edits", "audio/transcriptions"])
async def test_what_may_have_been_made_is_not_made_twice(hub: OpenHub, endpoint: str) -> None:
    async def ask(client: openai.AsyncOpenAI) -> None:
        if endpoint == "images/generations":
            await client.images.generate(model="m", prompt="p")
        elif endpoint == "images/edits":
            await client.images.edit(model="m", prompt="p", image=("a.png", b"png", "image/png"))
        else:
            await client.audio.transcriptions.create(model="m", file=("a.wav", b"wav", "audio/wav"))

    async with two_places(hub) as (client, here, there):
        here.answer, there.answer = failing(500), failing(500)
        with pytest.raises(openai.InternalServerError):
            await ask(client)
        assert len(here.seen + there.seen) == 1
        here.answer, there.answer = failing(429), None
        for _ in range(4):
            await ask(client)
        assert here.answer is None, "who is refused is served elsewhere"
    async with two_places(hub, first="http://127.0.0.1:9/v1") as (client, _, there):
        for _ in range(4):  # nothing is sent to where nobody is
            await ask(client)
        assert len(there.seen) == 4
        if endpoint != "images/generations":
            assert [seen.body["model"] for seen in there.seen] == ["up-1"] * 4
            assert all(seen.files for seen in there.seen)


async def test_a_file_that_passes_in_pieces_is_sent_elsewhere_only_while_none_was(hub: OpenHub) -> None:
    large = ("a.wav", bytes(3 << 20), "audio/wav")
    async with two_places(hub, first="http://127.0.0.1:9/v1") as (client, _, there):
        for _ in range(4):
            await client.audio.transcriptions.create(model="m", file=large)
        assert [next(iter(seen.files.values()))[2] for seen in there.seen] == [3 << 20] * 4
    async with two_places(hub) as (client, here, there):
        here.answer, there.answer = failing(429), failing(429)
        with pytest.raises(openai.RateLimitError):
            await client.audio.transcriptions.create(model="m", file=large)
        assert len(here.seen + there.seen) == 1


@pytest.mark.attack("2.1/35")
async def test_a_page_of_a_provider_does_not_run_as_the_hubs(hub: OpenHub) -> None:
    async with house(hub) as (_running, client, fake):
        fake.answer = Response("<script>", media_type="text/html")
        answer = await client.audio.speech.create(model="m", voice="alloy", input="hi")
        assert answer.response.headers["content-type"] == "application/octet-stream"


async def test_a_client_that_leaves_within_an_upload_ends_it(hub: OpenHub) -> None:
    async with house(hub) as (running, client, fake):
        _reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
        head = form(('name="model"', "m"), ('name="file"; filename="x"', ""), end="")[:-2] + bytes(3_000_000)
        writer.write(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9000000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\nauthorization: Bearer "
            + client.api_key.encode()
            + b"\r\n\r\n"
        )
        writer.write(head)
        await writer.drain()
        async with asyncio.timeout(20):
            while not running.gate.permits:
                await asyncio.sleep(0)
            writer.close()
            while not running.gate.outcomes:
                await asyncio.sleep(0)
        assert fake.seen == []
