"""What arguments become on the wire: their own value and nothing else, whatever they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_bridge.openapi.document import read_document
from mcp_bridge.openapi.operations import Configured, Operation
from mcp_bridge.openapi.requests import BadArgument, Target, outgoing
from registry.egress.http import Egress, Outgoing
from registry.egress.request import head, parse
from tests.peers.http_peer import always, listening
from tests.recording import Unlimited

TARGET = Target(base="https://api.example/v1?key=k", headers=(("authorization", "Bearer the-secret"),))
PETS = read_document(
    (Path(__file__).parent / "petstore.yaml").read_text(), "p", Configured(frozenset(), frozenset({"api_key"}))
).operations


def operation(path: str = "/x", *parameters: dict[str, Any], method: str = "get", body: Any = None) -> Operation:
    item: dict[str, Any] = {"operationId": "it", "parameters": list(parameters), "responses": {}}
    if body is not None:
        item["requestBody"] = {"content": body}
    text = json.dumps({"openapi": "3.1.0", "paths": {path: {method: item}}})
    read = read_document(text, "d", Configured(url="https://a.example"))
    assert not read.quarantined, read.quarantined
    return read.operations["it"]


def parameter(place: str, **members: Any) -> dict[str, Any]:
    return {"name": "p", "in": place, "required": place == "path", "schema": {}, **members}


def url_of(path: str, found: dict[str, Any], value: Any) -> str:
    made = outgoing(operation(path, found), {"p": value}, Target(base="http://h"))
    return made.url.removeprefix("http://h")


COLOURS = ["blue", "bl ack"]
RGB = {"R": 100, "G": "a,b"}


@pytest.mark.parametrize(
    ("found", "value", "written"),
    [
        (parameter("path"), 5, "/a/5/b"),
        (parameter("path"), "ä?#%;=&+", "/a/%C3%A4%3F%23%25%3B%3D%26%2B/b"),
        (parameter("path"), True, "/a/true/b"),
        (parameter("path"), COLOURS, "/a/blue,bl%20ack/b"),
        (parameter("path"), RGB, "/a/R,100,G,a%2Cb/b"),
        (parameter("path", explode=True), RGB, "/a/R=100,G=a%2Cb/b"),
        (parameter("path", style="label"), COLOURS, "/a/.blue,bl%20ack/b"),
        (parameter("path", style="label", explode=True), COLOURS, "/a/.blue.bl%20ack/b"),
        (parameter("path", style="matrix"), COLOURS, "/a/;p=blue,bl%20ack/b"),
        (parameter("path", style="matrix", explode=True), COLOURS, "/a/;p=blue;p=bl%20ack/b"),
        (parameter("path", style="matrix", explode=True), RGB, "/a/;R=100;G=a%2Cb/b"),
    ],
)
def test_path_styles(found: dict[str, Any], value: Any, written: str) -> None:
    assert url_of("/a/{p}/b", found, value) == written


@pytest.mark.parametrize(
    ("found", "value", "written"),
    [
        (parameter("query"), "a b&c=d", "?p=a%20b%26c%3Dd"),
        (parameter("query"), None, ""),
        (parameter("query"), "", "?p="),
        (parameter("query"), COLOURS, "?p=blue&p=bl%20ack"),
        (parameter("query", explode=False), COLOURS, "?p=blue,bl%20ack"),
        (parameter("query"), RGB, "?R=100&G=a%2Cb"),
        (parameter("query", explode=False), RGB, "?p=R,100,G,a%2Cb"),
        (parameter("query", style="spaceDelimited", explode=False), COLOURS, "?p=blue%20bl%20ack"),
        (parameter("query", style="pipeDelimited", explode=False), COLOURS, "?p=blue%7Cbl%20ack"),
        (parameter("query", style="deepObject"), RGB, "?p%5BR%5D=100&p%5BG%5D=a%2Cb"),
        (parameter("query", style="deepObject"), {"a": {"b": [1, 2]}}, "?p%5Ba%5D%5Bb%5D=1&p%5Ba%5D%5Bb%5D=2"),
        (
            {"name": "p", "in": "query", "content": {"application/json": {"schema": {}}}},
            {"a": [1]},
            "?p=%7B%22a%22%3A%5B1%5D%7D",
        ),
    ],
)
def test_query_styles(found: dict[str, Any], value: Any, written: str) -> None:
    assert url_of("/x", found, value) == f"/x{written}"


def test_headers_and_cookies() -> None:
    made = outgoing(
        operation("/x", parameter("header"), {"name": "c", "in": "cookie", "schema": {}}),
        {"p": ["a", 1], "c": "x; admin=1"},
        Target(base="http://h"),
    )
    assert dict(made.headers) == {"accept": "*/*;q=0.5", "p": "a,1", "cookie": "c=x%3B%20admin%3D1"}


def test_the_operators_query_and_headers_go_with_each_request_and_cannot_be_doubled() -> None:
    made = outgoing(PETS["listPets"], {"limit": 5, "page_size": 2, "filter": {"a": "b"}, "X-Trace": "t"}, TARGET)
    assert made.url == "https://api.example/v1/pets?key=k&limit=5&filter%5Ba%5D=b&page%5Bsize%5D=2"
    assert ("authorization", "Bearer the-secret") in made.headers
    free = operation("/x", parameter("query"), {"name": "other", "in": "query", "schema": {}})
    for taken in ("key", "other"):
        with pytest.raises(BadArgument, match=f"p: '{taken}' is the name of another parameter"):
            outgoing(free, {"p": {taken: "mine"}}, TARGET)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "../admin",
        "a/b",
        "a\\b",
        "a%2Fb",
        "a%252fb",
        "%2e%2e",
        "%252e%252E",
        "..;x",
        "a\r\nb",
        "a%0d%0ab",
        "a\0",
        "%25252525252525252f",
        "\ud800",
    ],
)
@pytest.mark.parametrize("path", ["/a/{p}/b", "/a/{p}"])
@pytest.mark.attack("2.2/22", "2.2/31", defence="mcp_bridge.openapi.requests:_NOT_IN_A_SEGMENT")
def test_a_path_argument_that_could_be_read_as_another_path_is_refused(path: str, value: str) -> None:
    with pytest.raises(BadArgument, match=r"^p: "):
        url_of(path, parameter("path"), value)


def test_two_arguments_cannot_make_dots_together() -> None:
    found = operation("/a/{p}{q}", parameter("path"), {"name": "q", "in": "path", "required": True, "schema": {}})
    assert outgoing(found, {"p": ".a", "q": "b"}, TARGET).url.endswith("/a/.ab?key=k")
    label = operation("/a/{p}{q}", parameter("path", style="label"), found_q := {**parameter("path"), "name": "q"})
    assert found_q
    with pytest.raises(BadArgument):
        outgoing(label, {"p": [""], "q": "x"}, TARGET)


def test_what_the_operator_configured_stands_in_the_place_of_the_documents() -> None:
    target = Target(base="http://h", headers=(("Accept", "text/csv"), ("Content-Type", "application/x-own+json")))
    made = outgoing(PETS["createPet"], {"body": {"name": "a"}}, target)
    assert made.headers == target.headers


def test_forms_and_multipart() -> None:
    made = outgoing(PETS["put_pets_petId"], {"petId": "1", "body": {"name": "a&b\r\n", "tags": ["x", "y"]}}, TARGET)
    assert made.body == b"name=a%26b%0D%0A&tags=x&tags=y"
    made = outgoing(PETS["putPhoto"], {"petId": "1", "body": {"caption": "hï", "photo": "iVBORw=="}}, TARGET)
    boundary = dict(made.headers)["content-type"].partition("boundary=")[2]
    assert (
        made.body
        == (
            f'--{boundary}\r\ncontent-disposition: form-data; name="caption"\r\n\r\nhï\r\n'
            f'--{boundary}\r\ncontent-disposition: form-data; name="photo"; filename="photo"\r\ncontent-type: image/png\r\n\r\n'
        ).encode()
        + b"\x89PNG\r\n"
        + f"--{boundary}--\r\n".encode()
    )
    with pytest.raises(BadArgument, match=r"^body\.photo: must be base64"):
        outgoing(PETS["putPhoto"], {"petId": "1", "body": {"photo": "not base64"}}, TARGET)


@pytest.mark.attack("2.1/22")
def test_a_name_within_a_form_cannot_begin_a_header() -> None:
    content = {"multipart/form-data": {"schema": {"type": "object"}}}
    made = outgoing(operation(method="post", body=content), {"body": {'a"\r\nx-evil: 1': "v"}}, TARGET)
    assert made.body is not None
    assert b'name="a%22%0D%0Ax-evil: 1"\r\n' in made.body


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
hostile = st.sampled_from(
    [
        "..",
        "../..",
        "%2e%2e/",
        "\r\nhost: evil",
        "//evil.example",
        "@evil.example",
        "a?b",
        "a#b",
        "\\..\\",
        "http://evil/",
    ]
)
STYLES = [
    ("path", "simple"),
    ("path", "label"),
    ("path", "matrix"),
    ("query", "form"),
    ("query", "spaceDelimited"),
    ("query", "pipeDelimited"),
    ("query", "deepObject"),
    ("header", "simple"),
    ("cookie", "form"),
]
SHAPES = {
    (place, style, explode): operation(
        "/v2/{p}/end.json" if place == "path" else "/v2/x/end.json",
        parameter(place, style=style, explode=explode),
        method="post",
        body={"application/json": {"schema": {}}},
    )
    for place, style in STYLES
    for explode in (True, False)
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(value=values | hostile, body=values)
@example(value="..", body=None)
@example(value={"..": ".."}, body=None)
@example(value=["", ""], body=None)
@pytest.mark.attack("2.1/22", "2.2/22")
def test_no_argument_changes_host_path_or_headers(shape: tuple[str, str, bool], value: Any, body: Any) -> None:
    try:
        made = outgoing(SHAPES[shape], {"p": value, "body": body}, TARGET)
    except BadArgument:
        return
    allowed(made, has_argument=value is not None, place=shape[0])


def allowed(made: Outgoing, *, has_argument: bool, place: str) -> None:
    target = parse(made.url)
    assert (target.scheme, target.authority) == ("https", "api.example")
    path, _, query = target.path.partition("?")
    segments = path.split("/")
    assert [*segments[:3], *segments[4:]] == ["", "v1", "v2", "end.json"]
    assert re.fullmatch(r"[A-Za-z0-9._~%,;=-]+", segments[3])
    decoded = unquote(segments[3])
    assert not re.search(r"[/\\\x00-\x1f]", decoded)
    assert decoded not in {".", ".."}
    assert parse_qsl(query, keep_blank_values=True)[0] == ("key", "k")
    assert place == "query" or query == "key=k"
    extra = {"p"} if place == "header" and has_argument else {"cookie"} if place == "cookie" and has_argument else set()
    assert {name for name, _ in made.headers} - extra == {"accept", "content-type", "authorization"}
    assert len(made.headers) == len({name for name, _ in made.headers})
    lines = head(target, made.method, headers=made.headers, length=len(made.body or b"")).split(b"\r\n")
    names = {line.partition(b":")[0].decode() for line in lines[1:-2]}
    assert names == {name for name, _ in made.headers} | {"host", "user-agent", "content-length"}
    assert len(lines) == 1 + len(names) + 2, "the start line, a line for each header, an empty one"


async def test_a_recording_server_sees_allowed_requests_only() -> None:
    """The same over a socket: what is sent is what was made, one request for each."""

    class Permit(Unlimited):
        entry_name = "api"

        def use(self) -> None:
            """Count nothing."""

    nasty = ["..", "a\r\nx-evil: 1", "a b", "//evil", "é", "a?b#c", "%0d%0a", {"a\r\n": "b\r\n"}, ["\r\n\r\nGET /"], 5]
    async with listening(always(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as peer:
        egress, sent = Egress(), 0
        target = Target(base=f"{peer.url}v1?key=k")
        for shape in SHAPES.values():
            for value in nasty:
                try:
                    made = outgoing(shape, {"p": value, "body": value}, target)
                except BadArgument:
                    continue
                async with egress.send(Permit(), made) as incoming:
                    await incoming.read()
                sent += 1
        await egress.aclose()
        assert len(peer.requests) == sent > 50
        for request in peer.requests:
            assert re.fullmatch(r"POST /v1/v2/[^/?# ]+/end\.json\?key=k\S* HTTP/1\.1", request.start)
            assert request.headers["host"] == f"127.0.0.1:{peer.port}"
            assert request.headers.keys() <= {
                "host", "user-agent", "accept", "content-type", "content-length", "p", "cookie", "connection",
            }  # fmt: skip
