"""No credential stands in the text form of a value: that text reaches logs and traces by itself."""

from __future__ import annotations

from typing import cast

import pytest

from registry.declared.config import Declared, HubSettings
from registry.egress.http import Incoming, Outgoing
from registry.egress.http1 import Connection
from registry.entries import Agent, Model, Server
from registry.identity import KeySpec

CANARY = "hunter2hunter2hunter2hunter2hunter2"
HEADERS = (("authorization", CANARY),)


@pytest.mark.parametrize(
    "value",
    [
        Agent(name="a", url="http://x", headers=HEADERS, auth=CANARY.encode()),
        Server(name="s", url="http://x", headers=HEADERS),
        Server(name="s", command="x", args=(f"--token={CANARY}",), env=(("TOKEN", CANARY),)),
        Model(name="m", provider="openai", api_key=CANARY, model="m", headers=HEADERS),
        KeySpec(name="k", allow=(), secret=CANARY),
        Outgoing(url=f"http://x/?key={CANARY}", headers=HEADERS, body=CANARY.encode()),
        Incoming(cast("Connection", None), "a", 0, [(b"set-cookie", CANARY.encode())], 200),
        HubSettings(admin_key=CANARY, secret_keys=(CANARY,), egress_proxy=f"http://u:{CANARY}@proxy"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.attack("2.1/21")
def test_a_values_text_form_holds_no_credential(value: object) -> None:
    assert CANARY not in repr(value)
    assert CANARY not in repr(Declared(agents={"a": value}))  # type: ignore[dict-item]  # any value will do
