"""Files, batches and vector stores, asked with OpenAI's SDK of a real hub before fakes of OpenAI's platform: two accounts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.conftest import ADMIN_KEY, Hub
from tests.peers.openai_endpoints import USED, Endpoints, openai_endpoints
from tests.peers.openai_platform import lines

OpenHub = Callable[..., Any]
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class House:
    """A hub before two accounts: `m` and `m2` at `here`, `far` at `there`."""

    hub: Hub
    here: Endpoints
    there: Endpoints

    @asynccontextmanager
    async def client(self, *allow: str, **members: Any) -> AsyncIterator[openai.AsyncOpenAI]:
        secret = await self.hub.key(*(allow or ("model:*",)), **members)
        url = f"{self.hub.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=secret, max_retries=0, timeout=20) as client:
            yield client


@asynccontextmanager
async def house(hub: OpenHub) -> AsyncIterator[House]:
    async with openai_endpoints() as here, openai_endpoints() as there:
        yaml = (
            "models:\n"
            f"  m: {{provider: openai, model: up-1, base_url: '{here.url}', api_key: sk-upstream-key-000}}\n"
            f"  m2: {{provider: openai, model: up-2, base_url: '{here.url}', api_key: sk-upstream-key-000}}\n"
            f"  far: {{provider: openai, model: up-1, base_url: '{there.url}', api_key: sk-upstream-key-111}}\n"
            f"  other: {{provider: openai, model: up-1, base_url: '{here.url}', api_key: sk-upstream-key-222}}\n"
            f"  plain: {{provider: deepseek, model: up-1, base_url: '{here.url}', api_key: sk-upstream-key-000}}\n"
        )
        async with hub(yaml) as running:
            yield House(running, here, there)


async def test_a_file_is_uploaded_listed_read_and_deleted(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m*") as client:
        made = await client.files.create(file=("a b.txt", b"hello"), purpose="user_data")
        assert made.id.startswith("file-")
        assert "up1" not in made.id
        (upstream,) = h.here.files
        assert h.here.seen[0].body == {"purpose": "user_data"}
        assert (made.bytes, made.filename, made.purpose) == (5, "a b.txt", "user_data")
        assert (await client.files.retrieve(made.id)).id == made.id, "a thing has the same id each time"
        assert (await client.files.content(made.id)).content == b"hello"
        assert [file.id async for file in client.files.list()] == [made.id]
        assert [file.id async for file in client.files.list(purpose="batch")] == []
        gone = await client.files.delete(made.id)
        assert (gone.id, gone.deleted) == (made.id, True)
        assert upstream not in h.here.files
        assert [file.id async for file in client.files.list()] == []
        with pytest.raises(openai.NotFoundError) as absent:
            await client.files.retrieve(made.id)
        assert "up1" not in str(absent.value)
        kinds = {(permit.kind, permit.entry_name) for permit in h.hub.gate.permits}
        assert kinds == {("model", "m")}


async def test_lists_have_pages_in_both_orders(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as client:
        ids = [(await client.files.create(file=b"x", purpose="user_data")).id for _ in range(5)]
        assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
        assert [file.id async for file in client.files.list(limit=2, order="asc")] == ids
        page = await client.files.list(limit=2)
        assert (page.has_more, len(page.data)) == (True, 2)
        for query in ({"limit": "0"}, {"limit": "x"}, {"order": "up"}, {"after": "file-x"}):
            with pytest.raises((openai.BadRequestError, openai.NotFoundError)):
                await client.files.list(extra_query=query)


async def test_a_file_is_uploaded_in_parts(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as client, h.client() as stranger:
        made = await client.uploads.create(bytes=6, filename="x", mime_type="text/plain", purpose="user_data")
        assert made.id.startswith("upload_")
        assert "up1" not in made.id
        parts = [(await client.uploads.parts.create(made.id, data=data)).id for data in (b"abc", b"def")]
        with pytest.raises(openai.NotFoundError):
            await stranger.uploads.parts.create(made.id, data=b"x")
        with pytest.raises(openai.NotFoundError):
            await client.uploads.complete(made.id, part_ids=["part_up2"])
        done = await client.uploads.complete(made.id, part_ids=parts)
        assert (done.id, done.status) == (made.id, "completed")
        assert done.file is not None
        assert (await client.files.content(done.file.id)).content == b"abcdef"
        assert [file.id async for file in client.files.list()] == [done.file.id]
        with pytest.raises(openai.NotFoundError):
            await stranger.files.retrieve(done.file.id)
        assert (await client.uploads.cancel(made.id)).id == made.id
        with pytest.raises(openai.BadRequestError, match="uploaded whole"):
            await client.uploads.create(bytes=6, filename="x", mime_type="text/plain", purpose="batch")


async def test_where_a_file_goes_is_said_or_clear(hub: OpenHub) -> None:
    async with house(hub) as h, h.client() as client:
        with pytest.raises(openai.BadRequestError, match=r"model.*far, m, m2, other"):
            await client.files.create(file=b"x", purpose="user_data")
        await client.files.create(file=b"x", purpose="user_data", extra_body={"model": "far"})
        await client.files.create(file=b"x", purpose="user_data", extra_query={"model": "m"})
        assert (len(h.here.files), len(h.there.files)) == (1, 1)
        assert h.there.seen[0].body == {"purpose": "user_data"}, "the provider knows no model here"
        with pytest.raises(openai.BadRequestError, match=r"deepseek.*/files"):
            await client.files.create(file=b"x", purpose="user_data", extra_body={"model": "plain"})
        with pytest.raises(openai.NotFoundError):
            await client.files.create(file=b"x", purpose="user_data", extra_body={"model": "none"})
        async with h.client("model:plain") as poor:
            with pytest.raises(openai.BadRequestError, match="no model that this key may use"):
                await poor.files.create(file=b"x", purpose="user_data")
        async with h.client("model:far") as narrow:
            with pytest.raises(openai.NotFoundError):
                await narrow.files.create(file=b"x", purpose="user_data", extra_body={"model": "m"})


@pytest.mark.attack("2.1/13", "2.2/27")
async def test_foreign_forged_and_absent_ids_are_one_answer(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as mine, h.client("model:*") as theirs:
        file = (await mine.files.create(file=b"x", purpose="user_data")).id
        store = (await mine.vector_stores.create()).id
        before = len(h.here.seen)
        (upstream,) = h.here.files
        flipped = file[:-1] + ("A" if file[-1] != "A" else "B")
        said = set()
        for name in (file, upstream, flipped, file.upper(), file + "A", file + "=", "file-", "file-" + "A" * 5000):
            for call in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
                with pytest.raises(openai.NotFoundError) as refused:
                    await call(name)
                said.add(str(refused.value).partition(" (request")[0].replace(name[:200], "X"))
        assert len(said) == 1
        for name in (store, "vs_up2", file.replace("file-", "vs_"), store.replace("vs_", "batch_")):
            with pytest.raises(openai.NotFoundError):
                await theirs.vector_stores.retrieve(name)
            with pytest.raises(openai.NotFoundError):
                await theirs.batches.retrieve(name)
        for name in (file, upstream):
            with pytest.raises(openai.NotFoundError):
                await theirs.vector_stores.create(file_ids=[name], extra_body={"model": "m"})
            with pytest.raises(openai.NotFoundError):
                await theirs.batches.create(input_file_id=name, endpoint="/v1/embeddings", completion_window="24h")
        assert [one.id async for one in theirs.files.list()] == []
        assert [one.id async for one in theirs.vector_stores.list()] == []
        assert len(h.here.seen) == before, "the provider was not asked"


async def test_keys_of_a_team_share_what_one_of_them_made(hub: OpenHub) -> None:
    async with house(hub) as h:
        for alias in ("red", "blue"):
            await h.hub.services.teams.create(alias)
        async with (
            h.client("model:m", team="red") as one,
            h.client("model:m", team="red") as two,
            h.client("model:m", team="blue") as stranger,
            h.client("model:far", team="red") as elsewhere,
        ):
            file = (await one.files.create(file=b"x", purpose="user_data")).id
            assert (await two.files.retrieve(file)).id == file
            assert [found.id async for found in two.files.list()] == [file]
            store = await two.vector_stores.create(file_ids=[file])
            assert [found.id async for found in two.vector_stores.files.list(store.id)] == [file]
            for other in (stranger, elsewhere):
                with pytest.raises(openai.NotFoundError):
                    await other.files.retrieve(file)
                assert [found.id async for found in other.files.list()] == []


async def test_a_thing_of_one_account_cannot_be_used_at_another(hub: OpenHub) -> None:
    async with house(hub) as h, h.client() as client:
        file = (await client.files.create(file=b"x", purpose="user_data", extra_body={"model": "m"})).id
        store = (await client.vector_stores.create(extra_body={"model": "far"})).id
        own = (await client.vector_stores.create(file_ids=[file], extra_body={"model": "m2"})).id
        assert (await client.vector_stores.files.list(own)).data[0].id == file, "m and m2 are one account"
        for model in ("far", "other"):
            with pytest.raises(openai.BadRequestError, match="provider of m"):
                await client.vector_stores.create(file_ids=[file], extra_body={"model": model})
        with pytest.raises(openai.BadRequestError, match="provider of m"):
            await client.vector_stores.files.create(store, file_id=file)


async def test_ids_end_with_the_grant_of_their_model(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as client:
        file = (await client.files.create(file=b"x", purpose="user_data")).id
        async with h.hub.http(ADMIN_KEY) as admin:
            (key,) = [one["name"] for one in (await admin.get("/api/keys")).json()["items"]]
            assert (await admin.patch(f"/api/keys/{key}", json={"allow": ["model:m2"]})).status_code == 200
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(file)
        assert [one.id async for one in client.files.list()] == []


async def test_a_batch_runs_with_models_and_files_of_the_hub(hub: OpenHub) -> None:
    async with house(hub) as h, h.client() as client:
        picture = (await client.files.create(file=b"p", purpose="user_data", extra_body={"model": "m"})).id
        content = [{"type": "file", "file": {"file_id": picture}}]
        body = {"model": "m", "messages": [{"role": "user", "content": content}]}
        source = await client.files.create(file=("in.jsonl", lines(ASK, body)), purpose="batch")
        sent = [json.loads(line)["body"] for line in h.here.contents["file-up2"].splitlines()]
        assert [one["model"] for one in sent] == ["up-1", "up-1"]
        assert sent[1]["messages"][0]["content"][0]["file"]["file_id"] == "file-up1"
        made = await client.batches.create(
            input_file_id=source.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
        )
        assert made.id.startswith("batch_")
        assert made.input_file_id == source.id
        assert h.here.seen[-1].body["input_file_id"] == "file-up2"
        assert (await client.batches.retrieve(made.id)).status == "validating"
        h.here.platform.finish(b'{"custom_id":"r0"}\n')
        (listed,) = [one async for one in client.batches.list()]
        assert (listed.status, listed.id) == ("completed", made.id), "a list asks for what has not ended"
        done = await client.batches.retrieve(made.id)
        assert done.output_file_id is not None
        assert done.output_file_id == listed.output_file_id
        assert (await client.files.content(done.output_file_id)).content == b'{"custom_id":"r0"}\n'
        assert {one.id async for one in client.files.list()} == {picture, source.id, done.output_file_id}
        used = [permit.usage for permit in h.hub.gate.permits if permit.usage.input_tokens]
        assert [(one.input_tokens, one.output_tokens) for one in used] == [(7, 3)], "counted once"
        assert USED["input_tokens"] == 7
        asked = len(h.here.seen)
        assert [one.status async for one in client.batches.list()] == ["completed"]
        assert len(h.here.seen) == asked
        assert (await client.batches.cancel(made.id)).status == "cancelling"
        async with h.client() as stranger:
            with pytest.raises(openai.NotFoundError):
                await stranger.files.content(done.output_file_id)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no lines"),
        (b"\n \n", "no lines"),
        (b"nonsense", "line 1"),
        (lines(ASK) + b"[]", "line 2"),
        (lines(ASK, {"model": "m2", "messages": []}), "line 2: asks for 'm2'"),
        (lines({"messages": []}), "model is missing"),
        (lines(ASK, url="/v1/files"), "url must be one of"),
        (lines(ASK).replace(b"POST", b"GET"), "method must be POST"),
        (lines(ASK).replace(b'"model": "m"', b'"model": "m", "model": "far"'), "twice"),
        (lines(ASK).replace(b'"model"', b'"Model"'), "write 'model'"),
        (lines({**ASK, "tools": [{"type": "mcp", "server_url": "hub"}]}), "type mcp"),
        (
            lines({"model": "m", "input": "x", "previous_response_id": "resp_1"}, url="/v1/responses"),
            "previous_response",
        ),
    ],
)
async def test_a_batch_that_cannot_be_judged_is_not_uploaded(hub: OpenHub, data: bytes, said: str) -> None:
    async with house(hub) as h, h.client() as client:
        with pytest.raises(openai.BadRequestError, match=said):
            await client.files.create(file=data, purpose="batch")
        assert h.here.files == {}


async def test_a_batch_uses_no_model_and_no_file_that_its_key_may_not_use(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:far") as client, h.client("model:*") as rich:
        with pytest.raises(openai.NotFoundError):
            await client.files.create(file=lines(ASK), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="are for 'm'"):
            await client.files.create(file=lines(ASK), purpose="batch", extra_body={"model": "far"})
        theirs = (await rich.files.create(file=b"x", purpose="user_data", extra_body={"model": "far"})).id
        content = [{"type": "file", "file": {"file_id": theirs}}]
        stolen = {"model": "far", "messages": [{"role": "user", "content": content}]}
        with pytest.raises(openai.BadRequestError, match="line 2: No file"):
            await client.files.create(file=lines({**ASK, "model": "far"}, stolen), purpose="batch")
        plain = (await client.files.create(file=lines(ASK), purpose="user_data")).id
        with pytest.raises(openai.BadRequestError, match="purpose batch"):
            await client.batches.create(input_file_id=plain, endpoint="/v1/embeddings", completion_window="24h")
        good = (await client.files.create(file=lines({**ASK, "model": "far"}), purpose="batch")).id
        with pytest.raises(openai.NotFoundError):
            await client.batches.create(
                input_file_id=good, endpoint="/v1/embeddings", completion_window="24h", extra_body={"model": "m"}
            )


async def test_the_purpose_may_stand_behind_the_file(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as client, h.hub.http(client.api_key) as http:
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            + lines(ASK)
            + b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
        )
        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = await http.post("/v1/files", content=body, headers=headers)
        assert answer.json()["purpose"] == "batch"
        assert json.loads(h.here.contents["file-up1"])["body"]["model"] == "up-1"
        late = body[:-7] + b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
        assert (await http.post("/v1/files", content=late, headers=headers)).status_code == 400
        assert (await http.post("/v1/files", json={})).status_code == 400


async def test_vector_stores_and_their_files(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as client:
        files = [(await client.files.create(file=b"x", purpose="assistants")).id for _ in range(4)]
        stores = client.vector_stores
        store = await stores.create(name="s", file_ids=files[:1])
        assert store.id.startswith("vs_")
        assert (await stores.retrieve(store.id)).id == store.id
        assert (await stores.update(store.id, name="new")).name == "new"
        added = await stores.files.create(store.id, file_id=files[1])
        assert (added.id, added.vector_store_id) == (files[1], store.id)
        together = await stores.file_batches.create(store.id, file_ids=files[2:])
        assert together.vector_store_id == store.id
        assert (await stores.file_batches.retrieve(together.id, vector_store_id=store.id)).id == together.id
        inside = [one.id async for one in stores.file_batches.list_files(together.id, vector_store_id=store.id)]
        assert inside == files
        assert (await stores.file_batches.cancel(together.id, vector_store_id=store.id)).id == together.id
        assert [one.id async for one in stores.files.list(store.id, limit=1)] == files
        assert (await stores.files.retrieve(files[0], vector_store_id=store.id)).id == files[0]
        changed = await stores.files.update(files[0], vector_store_id=store.id, attributes={"a": "b"})
        assert changed.attributes == {"a": "b"}
        (text,) = [one async for one in stores.files.content(files[0], vector_store_id=store.id)]
        assert text.text == "hello"
        assert [one.file_id async for one in stores.search(store.id, query="q")] == files
        assert (await stores.files.delete(files[0], vector_store_id=store.id)).id == files[0]
        assert [one.id async for one in stores.list()] == [store.id]
        assert all(seen.headers["openai-beta"] == "assistants=v2" for seen in h.here.seen if "stores" in seen.path)
        assert (await stores.delete(store.id)).deleted
        assert [one.id async for one in stores.list()] == []


async def test_a_file_in_a_chat_message_is_the_callers_own(hub: OpenHub) -> None:
    async with house(hub) as h, h.client() as client, h.client() as stranger:
        file = (await client.files.create(file=b"x", purpose="user_data", extra_body={"model": "m"})).id
        ask: Any = [{"role": "user", "content": [{"type": "file", "file": {"file_id": file}}]}]
        answer = await client.chat.completions.create(model="m2", messages=ask)
        assert answer.choices[0].message.content == "hi"
        assert h.here.seen[-1].body["messages"][0]["content"][0]["file"] == {"file_id": "file-up1"}
        told: Any = [{"role": "user", "content": [{"type": "input_file", "file_id": file}]}]
        said = await client.responses.create(model="m", input=told)
        assert said.output_text == "hi"
        assert h.here.seen[-1].body["input"][0]["content"][0]["file_id"] == "file-up1"
        asked = len(h.here.seen)
        with pytest.raises(openai.BadRequestError, match="provider of m"):
            await client.chat.completions.create(model="far", messages=ask)
        for name in (file, "file-up1"):
            ask[0]["content"][0]["file"]["file_id"] = name
            with pytest.raises(openai.NotFoundError):
                await stranger.chat.completions.create(model="m", messages=ask)
        async with h.hub.http(stranger.api_key) as http:
            hidden = json.dumps({"model": "m", "messages": ask}).replace("file_id", "file\\u005fid")
            headers = {"content-type": "application/json"}
            assert (await http.post("/v1/chat/completions", content=hidden, headers=headers)).status_code == 404
            twice = json.dumps({"model": "m", "messages": ask}).replace('"file_id"', '"file_id": "a", "file_id"')
            assert (await http.post("/v1/chat/completions", content=twice, headers=headers)).status_code == 400
        assert len(h.here.seen) == asked


async def test_a_response_that_searches_a_store_shows_the_id_that_it_was_asked_with(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as client:
        store = (await client.vector_stores.create()).id
        tools: Any = [{"type": "file_search", "vector_store_ids": [store]}]
        said: Any = await client.responses.create(model="m", input="x", tools=tools)
        assert h.here.seen[-1].body["tools"][0]["vector_store_ids"] == ["vs_up1"]
        assert said.tools[0].vector_store_ids == [store]
        again: Any = await client.responses.create(model="m", input="y", tools=tools, previous_response_id=said.id)
        assert again.tools[0].vector_store_ids == [store]
        tools[0]["vector_store_ids"] = ["vs_up1"]
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="m", input="x", tools=tools)


async def test_an_edit_from_uploaded_pictures_names_them_as_the_provider_does(hub: OpenHub) -> None:
    async with house(hub) as h, h.client("model:m") as client, h.hub.http(client.api_key) as http:
        file = (await client.files.create(file=b"x", purpose="vision")).id
        body = {"model": "m2", "prompt": "p", "images": [{"file_id": file}]}
        assert (await http.post("/v1/images/edits", json=body)).status_code == 404, "m2 is not granted"
        assert (await http.post("/v1/images/edits", json={**body, "model": "m"})).status_code == 200
        assert h.here.seen[-1].body["images"] == [{"file_id": "file-up1"}]


async def test_a_provider_that_is_gone_is_named_and_lists_still_say_what_was(hub: OpenHub) -> None:
    async with openai_endpoints() as fake:
        yaml = (
            f"models:\n  m: {{provider: openai, model: up-1, base_url: '{fake.url}', api_key: sk-upstream-key-000}}\n"
        )
        context = hub(yaml)
        running = await context.__aenter__()
        h = House(running, fake, fake)
        clients = h.client()
        client = await clients.__aenter__()
        file = (await client.files.create(file=lines(ASK), purpose="batch")).id
        batch = (
            await client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
        ).id
    try:
        with pytest.raises(openai.InternalServerError, match="m:"):
            await client.files.content(file)
        with pytest.raises(openai.InternalServerError):
            await client.files.create(file=b"x", purpose="user_data")
        assert [one.id async for one in client.files.list()] == [file]
        assert [one.id async for one in client.batches.list()] == [batch]
    finally:
        await clients.__aexit__(None, None, None)
        await context.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/v1/files", 405),
        ("GET", "/v1/uploads", 405),
        ("DELETE", "/v1/batches", 405),
        ("POST", "/v1/files/file-x", 405),
        ("GET", "/v1/files/file-x/nothing", 404),
        ("GET", "/v1/files//content", 404),
        ("GET", "/v1/vector_stores/vs_x/files/file-x/more/of/it", 404),
        ("GET", "/files/file-x", 404),
        ("GET", "/v1/files?limit=1&limit=2", 400),
    ],
)
async def test_what_is_not_offered_is_said(hub: OpenHub, method: str, path: str, status: int) -> None:
    async with house(hub) as h, h.client() as client, h.hub.http(client.api_key) as http:
        answer = await http.request(method, path)
        assert answer.status_code == status
        assert "error" in answer.json()
