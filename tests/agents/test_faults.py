"""A2A's errors in every form, against the tables of the official SDK."""

from __future__ import annotations

import json
from typing import Any

import grpc
import httpx
import pytest
from a2a.client.errors import A2AClientError
from a2a.client.transports.rest import RestTransport
from a2a.compat.v0_3.rest_transport import CompatRestTransport
from a2a.server.request_handlers.grpc_handler import _ERROR_CODE_MAP
from a2a.types import AgentCard
from a2a.types.a2a_pb2 import GetTaskRequest
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import A2A_ERROR_MAPPING, JSON_RPC_ERROR_CODE_MAP, A2AError
from hypothesis import given
from hypothesis import strategies as st

from agents import faults
from agents.faults import ERROR_INFO, ROWS, Fault
from agents.speech import Version
from tests.conftest import served

EXTRA = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}


def info(reason: str) -> dict[str, Any]:
    return {"@type": ERROR_INFO, "reason": reason, "domain": "a2a-protocol.org", "metadata": {}}


def read(status: int, body: Any) -> tuple[int, str] | None:
    found = faults.read_http(status, json.dumps(body).encode())
    return found and (found.code, found.message)


@pytest.mark.parametrize(("kind", "code"), JSON_RPC_ERROR_CODE_MAP.items())
def test_the_table_is_the_sdks(kind: type[A2AError], code: int) -> None:
    row = next(row for row in ROWS if row.code == code)
    assert row.old_name == kind.__name__
    if kind in A2A_ERROR_MAPPING:  # it has no row for bodies that are not JSON
        assert (row.http, row.status, row.reason) == A2A_ERROR_MAPPING[kind]
        assert faults.grpc_status(code) == _ERROR_CODE_MAP[kind].value[0]


def test_the_status_numbers_are_those_of_grpc() -> None:
    assert {one.name: one.value[0] for one in grpc.StatusCode} == faults.STATUS_NUMBERS


@pytest.mark.parametrize("kind", A2A_ERROR_MAPPING)
def test_what_the_sdks_server_writes_is_read_with_its_code(kind: type[A2AError]) -> None:
    body = build_rest_error_payload(kind("so it is"))
    found = faults.read_http(body["error"]["code"], json.dumps(body).encode())
    assert found == Fault(JSON_RPC_ERROR_CODE_MAP[kind], "so it is", [info(A2A_ERROR_MAPPING[kind].reason)])


@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_the_sdks_clients_tell_every_error(version: Version) -> None:
    async def answer(scope: Any, _receive: Any, send: Any) -> None:
        code = int(scope["path"].rpartition("/")[2])  # the task's id
        status, body = faults.write_http(Fault(code, "so it is", [EXTRA]), version)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    async with served(answer) as url, httpx.AsyncClient(trust_env=False) as http:
        client = (RestTransport if version == "1.0" else CompatRestTransport)(http, AgentCard(), url)
        for row in ROWS:
            with pytest.raises(Exception, match=r"so it is|HTTP Error 400") as raised:
                await client.get_task(GetTaskRequest(id=str(row.code)))
            if row.reason == "PARSE_ERROR" and version == "1.0":  # the SDK has no reason for it
                assert isinstance(raised.value, A2AClientError)
            else:
                assert (type(raised.value).__name__, str(raised.value)) == (row.old_name, "so it is")


@given(
    row=st.sampled_from(ROWS),
    version=st.sampled_from(["1.0", "0.3"]),
    message=st.text(min_size=1),
    details=st.lists(st.sampled_from([EXTRA, {"@type": "x/y", "n": 2**60}]), max_size=2),
)
def test_what_is_written_is_read(row: faults.Row, version: Version, message: str, details: list[Any]) -> None:
    fault = Fault(row.code, message, faults.with_info(row.code, details))
    status, body = faults.write_http(fault, version)
    assert faults.read_http(status, json.dumps(body).encode()) == fault
    assert faults.read_said(body) == fault
    assert faults.read_jsonrpc({"code": fault.code, "message": message, "data": fault.details}) == fault
    assert faults.read_grpc(faults.grpc_status(row.code), message, fault.details) == fault


def test_an_error_has_one_error_info_and_it_comes_first() -> None:
    assert faults.with_info(-32001, [EXTRA]) == [info("TASK_NOT_FOUND"), EXTRA]
    given_already = [EXTRA, info("TASK_NOT_CANCELABLE")]
    assert faults.with_info(-32001, given_already) == given_already


def test_an_http_status_may_say_more_than_the_code() -> None:
    status, body = faults.write_http(Fault(-32603, "slowly", []), "1.0", 429)
    assert status == body["error"]["code"] == 429
    assert body["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert faults.write_http(Fault(-32600, "m", []), "1.0", 413)[1]["error"]["status"] == "INVALID_ARGUMENT"


def test_a_code_that_a2a_does_not_know_stays_what_it_is_where_it_can() -> None:
    found = faults.read_jsonrpc({"code": -32042, "message": "odd"})
    assert found == Fault(-32042, "odd", [])
    assert faults.write_http(found, "1.0")[0] == 500
    assert faults.grpc_status(-32042) == 13
    assert faults.read_jsonrpc({"code": -1, "data": [info("TASK_NOT_FOUND")]}) == (
        -32001,
        "Task not found",
        [info("TASK_NOT_FOUND")],
    )


def test_details_of_0_3_are_anything_and_become_typed() -> None:
    found = faults.read_jsonrpc({"code": -32603, "message": "m", "data": "why"})
    assert found is not None
    assert found.details == [{"@type": "type.googleapis.com/google.protobuf.Value", "value": "why"}]
    found = faults.read_jsonrpc({"code": -32603, "message": "m", "data": {"a": [1]}})
    assert found is not None
    assert found.details == [{"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"a": [1]}}]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        # the Python SDK of 0.3
        (404, {"message": "Task not found"}, (-32001, "Task not found")),
        (409, {"message": "Task cannot be canceled"}, (-32002, "Task cannot be canceled")),
        (501, {"message": "This operation is not supported"}, (-32004, "This operation is not supported")),
        (422, {"message": "Invalid parameters"}, (-32602, "Invalid parameters")),
        (415, {"message": "Incompatible content types"}, (-32005, "Incompatible content types")),
        (500, {"message": "unknown exception"}, (-32603, "unknown exception")),
        # its successor speaking 0.3, by the name of the class
        (400, {"type": "TaskNotCancelableError", "message": "m"}, (-32002, "m")),
        # the JavaScript SDK of 0.3, and JSON-RPC's whole error
        (400, {"code": -32003, "message": "m"}, (-32003, "m")),
        (500, {"jsonrpc": "2.0", "id": None, "error": {"code": -32004, "message": "m"}}, (-32004, "m")),
        # google.rpc.Status without a reason, also from gateways that put gRPC's number into `code`
        (404, {"error": {"code": 404, "status": "NOT_FOUND", "message": "m"}}, (-32001, "m")),
        (400, {"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "m"}}, (-32004, "m")),
        (501, {"code": 12, "message": "m", "details": []}, (-32004, "m")),
        (400, {"error": {"code": 400, "message": "m"}}, (-32600, "m")),
        # problem+json, as the specification's older examples have it
        (404, {"type": "https://a2a-protocol.org/errors/task-not-found", "title": "T", "detail": "d"}, (-32001, "d")),
        (400, {"type": "https://a2a-protocol.org/errors/version-not-supported", "title": "T"}, (-32009, "T")),
        (400, {"type": "about:blank", "title": "T", "status": 400}, (-32600, "T")),
        # web frameworks
        (404, {"detail": "Task abc not found"}, (-32001, "Task abc not found")),
        (404, {"detail": "Not Found"}, (-32601, "Not Found")),
        (405, {"detail": "Method Not Allowed"}, (-32601, "Method Not Allowed")),
        (422, {"detail": [{"loc": ["body"], "msg": "missing"}]}, (-32602, "Invalid params")),
        (404, {"error": "no such task"}, (-32001, "no such task")),
    ],
)
def test_every_known_shape_of_an_error_is_read(status: int, body: Any, expected: tuple[int, str]) -> None:
    assert read(status, body) == expected


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, {"message": "upstream connect error"}),
        (503, {"error": "no healthy upstream"}),
        (504, {"detail": "timed out"}),
        (401, {"message": "Unauthorized"}),
        (403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "m"}}),
        (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m"}}),
        (503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}),
        (404, {}),
        (404, []),
        (404, None),
        (404, {"error": {"code": True, "message": "m"}, "message": 1}),
        (500, {"detail": [1]}),
    ],
)
def test_a_body_that_says_nothing_of_a2a_is_no_fault(status: int, body: Any) -> None:
    assert read(status, body) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b'{"error":' + b'{"error":' * 500])
def test_a_body_that_is_not_json_is_no_fault(body: bytes) -> None:
    assert faults.read_http(404, body) is None


@pytest.mark.parametrize(
    "said",
    [
        {"task": {"id": "t", "status": {"state": "TASK_STATE_FAILED"}}},
        {"message": {"messageId": "m", "parts": []}},
        {"statusUpdate": {"taskId": "t"}},
        {"kind": "message", "messageId": "m", "parts": [{"kind": "text", "text": "error"}]},
        {"message": "a text"},
    ],
)
def test_no_event_of_a_stream_is_taken_for_an_error(said: Any) -> None:
    assert faults.read_said(said) is None


@given(
    said=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "code", "status", "message", "details", "data", "detail", "type", "@type", "reason"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=15,
    ),
    status=st.sampled_from([400, 404, 422, 500, 503]),
)
def test_any_json_is_read_or_refused(said: Any, status: int) -> None:
    for found in (faults.read_http(status, json.dumps(said).encode()), faults.read_said(said)):
        assert found is None or (isinstance(found.message, str) and all("@type" in one for one in found.details))
    faults.read_jsonrpc(said)
