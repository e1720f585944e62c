"""The half of the fake platform that keeps things, written from OpenAI's API reference: files, batches, vector stores.

One account of it; two are two services.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.peers.openai_endpoints import USED, Endpoints, error

NOW = 1_700_000_000


class Platform:
    """Its routes. What it keeps is in the `Endpoints`."""

    def __init__(self, fake: Endpoints) -> None:
        self._fake = fake
        self._number = 0
        self._uploads: dict[str, dict[str, Any]] = {}
        self.routes = [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files/{name}", self.file, methods=["GET", "DELETE"]),
            Route("/v1/files/{name}/content", self.content),
            Route("/v1/uploads", self.begin, methods=["POST"]),
            Route("/v1/uploads/{name}/parts", self.part, methods=["POST"]),
            Route("/v1/uploads/{name}/complete", self.complete, methods=["POST"]),
            Route("/v1/uploads/{name}/cancel", self.give_up, methods=["POST"]),
            Route("/v1/batches", self.batch, methods=["POST"]),
            Route("/v1/batches/{name}", self.batch_now),
            Route("/v1/batches/{name}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/vector_stores", self.store, methods=["POST"]),
            Route("/v1/vector_stores/{name}", self.store_now, methods=["GET", "POST", "DELETE"]),
            Route("/v1/vector_stores/{name}/search", self.search, methods=["POST"]),
            Route("/v1/vector_stores/{name}/files", self.attached, methods=["GET", "POST"]),
            Route("/v1/vector_stores/{name}/files/{file}", self.attachment, methods=["GET", "POST", "DELETE"]),
            Route("/v1/vector_stores/{name}/files/{file}/content", self.text),
            Route("/v1/vector_stores/{name}/file_batches", self.file_batch, methods=["POST"]),
            Route("/v1/vector_stores/{name}/file_batches/{files}", self.file_batch_now),
            Route("/v1/vector_stores/{name}/file_batches/{files}/cancel", self.file_batch_now, methods=["POST"]),
            Route("/v1/vector_stores/{name}/file_batches/{files}/files", self.attached),
        ]

    async def begin(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        name = self._name("upload_")
        about = {member: seen.body[member] for member in ("bytes", "filename", "purpose")}
        head = {"id": name, "object": "upload", "created_at": NOW, "expires_at": NOW + 3600}
        self._uploads[name] = {**head, **about, "status": "pending", "file": None}
        return JSONResponse(self._uploads[name])

    async def part(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        assert set(seen.files) == {"data"}
        name = self._name("part_")
        self._fake.contents[name] = self._fake.contents["last"]
        upload = request.path_params["name"]
        return JSONResponse({"id": name, "object": "upload.part", "created_at": NOW, "upload_id": upload})

    async def complete(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        upload = self._uploads[request.path_params["name"]]
        name = self._name("file-")
        self._fake.contents[name] = b"".join(self._fake.contents[part] for part in seen.body["part_ids"])
        about = {member: upload[member] for member in ("bytes", "filename", "purpose")}
        self._fake.files[name] = {"id": name, "object": "file", "created_at": NOW, "status": "processed", **about}
        upload |= {"status": "completed", "file": self._fake.files[name]}
        return JSONResponse(upload)

    async def give_up(self, request: Request) -> Response:
        await self._fake.take(request)
        upload = self._uploads[request.path_params["name"]]
        upload["status"] = "cancelled"
        return JSONResponse(upload)

    def _name(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}up{self._number}"

    async def upload(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        name = self._name("file-")
        filename, _, size, _ = seen.files["file"]
        file = {
            "id": name,
            "object": "file",
            "bytes": size,
            "created_at": NOW,
            "filename": filename,
            "purpose": seen.body["purpose"],
            "status": "processed",
        }
        self._fake.files[name] = file
        self._fake.contents[name] = self._fake.contents.get("last", b"")
        return JSONResponse(file)

    async def file(self, request: Request) -> Response:
        await self._fake.take(request)
        name = request.path_params["name"]
        if name not in self._fake.files:
            return error(404, f"No such File object: {name}")
        if request.method == "DELETE":
            del self._fake.files[name]
            return JSONResponse({"id": name, "object": "file", "deleted": True})
        return JSONResponse(self._fake.files[name])

    async def content(self, request: Request) -> Response:
        await self._fake.take(request)
        name = request.path_params["name"]
        if name not in self._fake.files:
            return error(404, f"No such File object: {name}")
        return Response(self._fake.contents[name], media_type="application/octet-stream")

    async def batch(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        if seen.body["input_file_id"] not in self._fake.files:
            return error(400, "Invalid input_file_id")
        name = self._name("batch_")
        batch = {
            "id": name,
            "object": "batch",
            "endpoint": seen.body["endpoint"],
            "errors": None,
            "input_file_id": seen.body["input_file_id"],
            "completion_window": seen.body["completion_window"],
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": NOW,
            "metadata": seen.body.get("metadata"),
        }
        self._fake.batches[name] = batch
        return JSONResponse(batch)

    def finish(self, answers: bytes) -> None:
        """Let all batches be done, with this output."""
        for batch in self._fake.batches.values():
            name = self._name("file-")
            self._fake.files[name] = {
                "id": name,
                "object": "file",
                "bytes": len(answers),
                "created_at": NOW,
                "status": "processed",
                "filename": "output.jsonl",
                "purpose": "batch_output",
            }
            self._fake.contents[name] = answers
            batch |= {"status": "completed", "output_file_id": name, "usage": USED}

    async def batch_now(self, request: Request) -> Response:
        await self._fake.take(request)
        batch = self._fake.batches.get(request.path_params["name"])
        return JSONResponse(batch) if batch else error(404, "No batch found")

    async def cancel(self, request: Request) -> Response:
        await self._fake.take(request)
        batch = self._fake.batches[request.path_params["name"]]
        batch["status"] = "cancelling"
        return JSONResponse(batch)

    async def store(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        name = self._name("vs_")
        counts = {"in_progress": 0, "completed": 0, "cancelled": 0, "failed": 0, "total": 0}
        store = {
            "id": name,
            "object": "vector_store",
            "created_at": NOW,
            "name": seen.body.get("name"),
            "usage_bytes": 0,
            "file_counts": counts,
            "status": "completed",
            "metadata": {},
        }
        self._fake.stores[name] = store
        self._fake.attached[name] = {}
        for file in seen.body.get("file_ids", []):
            self._attach(name, file)
        return JSONResponse(store)

    def _attach(self, store: str, file: str) -> dict[str, Any]:
        self._fake.attached[store][file] = {
            "id": file,
            "object": "vector_store.file",
            "created_at": NOW,
            "usage_bytes": 1,
            "vector_store_id": store,
            "status": "completed",
            "last_error": None,
            "attributes": {},
        }
        return self._fake.attached[store][file]

    async def store_now(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        name = request.path_params["name"]
        store = self._fake.stores.get(name)
        if store is None:
            return error(404, f"Vector store {name} not found")
        if request.method == "DELETE":
            del self._fake.stores[name]
            return JSONResponse({"id": name, "object": "vector_store.deleted", "deleted": True})
        if request.method == "POST":
            store |= seen.body
        return JSONResponse(store)

    async def search(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        data = [
            {
                "file_id": file,
                "filename": "x",
                "score": 0.5,
                "attributes": {},
                "content": [{"type": "text", "text": "t"}],
            }
            for file in self._fake.attached[request.path_params["name"]]
        ]
        page = {"object": "vector_store.search_results.page", "search_query": [seen.body["query"]]}
        return JSONResponse({**page, "data": data, "has_more": False, "next_page": None})

    async def attached(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        name = request.path_params["name"]
        if request.method == "POST":
            if seen.body["file_id"] not in self._fake.files:
                return error(404, "No such file")
            return JSONResponse(self._attach(name, seen.body["file_id"]))
        files = list(self._fake.attached[name].values())
        after, limit = request.query_params.get("after"), int(request.query_params.get("limit", 20))
        if after is not None:
            files = files[[file["id"] for file in files].index(after) + 1 :]
        page = files[:limit]
        ids = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return JSONResponse({"object": "list", "data": page, **ids, "has_more": len(files) > limit})

    async def attachment(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        name, file = request.path_params["name"], request.path_params["file"]
        if file not in self._fake.attached[name]:
            return error(404, "No such file")
        if request.method == "DELETE":
            del self._fake.attached[name][file]
            return JSONResponse({"id": file, "object": "vector_store.file.deleted", "deleted": True})
        if request.method == "POST":
            self._fake.attached[name][file] |= seen.body
        return JSONResponse(self._fake.attached[name][file])

    async def text(self, request: Request) -> Response:
        await self._fake.take(request)
        page = {"object": "vector_store.file_content.page", "has_more": False, "next_page": None}
        return JSONResponse({**page, "data": [{"type": "text", "text": "hello"}]})

    async def file_batch(self, request: Request) -> Response:
        seen = await self._fake.take(request)
        name = request.path_params["name"]
        for file in seen.body.get("file_ids") or [one["file_id"] for one in seen.body["files"]]:
            self._attach(name, file)
        return JSONResponse(self._file_batch(name, self._name("vsfb_")))

    async def file_batch_now(self, request: Request) -> Response:
        await self._fake.take(request)
        return JSONResponse(self._file_batch(request.path_params["name"], request.path_params["files"]))

    def _file_batch(self, store: str, name: str) -> dict[str, Any]:
        counts = {"in_progress": 0, "completed": 1, "cancelled": 0, "failed": 0, "total": 1}
        head = {"id": name, "object": "vector_store.file_batch", "created_at": NOW}
        return {**head, "vector_store_id": store, "status": "completed", "file_counts": counts}


def lines(*bodies: dict[str, Any], url: str = "/v1/chat/completions") -> bytes:
    """The input file of a batch."""
    made = [{"custom_id": f"r{n}", "method": "POST", "url": url, "body": body} for n, body in enumerate(bodies)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)
