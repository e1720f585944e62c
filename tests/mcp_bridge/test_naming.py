"""Exposed names (surface.md 6)."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_bridge.naming import MAX_LENGTH, exposed_name

SERVERS = st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True).filter(lambda name: "__" not in name)
TOOLS = st.text(min_size=1, max_size=128) | st.from_regex(r"_?[A-Za-z0-9_-]{1,60}", fullmatch=True)


@given(SERVERS, TOOLS)
def test_a_name_fits_every_client_and_begins_with_its_server(server: str, tool: str) -> None:
    name = exposed_name(server, tool)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert len(name) <= MAX_LENGTH
    assert name.startswith(f"{server}__")


@given(SERVERS, TOOLS, SERVERS, TOOLS)
@example("a", "_b", "a_", "b")
@example("a", "x" * 60, "a", "x" * 61)
@example("a", "b.c", "a", "b/c")
@pytest.mark.attack("2.1/10")
def test_two_tools_never_share_a_name(server: str, tool: str, other_server: str, other_tool: str) -> None:
    if (server, tool) != (other_server, other_tool):
        assert exposed_name(server, tool) != exposed_name(other_server, other_tool)


@given(SERVERS, TOOLS)
@pytest.mark.attack("2.1/10", defence="mcp_bridge.naming:_HASHED")
def test_a_tool_named_like_a_hashed_one_does_not_take_its_name(server: str, tool: str) -> None:
    shown = exposed_name(server, tool)
    impostor = shown.removeprefix(f"{server}__")
    if impostor != tool:
        assert exposed_name(server, impostor) != shown


def test_a_short_clean_name_stays_as_it_is() -> None:
    assert exposed_name("github", "list_issues") == "github__list_issues"


def test_a_cut_or_replaced_name_is_the_same_for_ever() -> None:
    assert exposed_name("crm", "find.customer") == exposed_name("crm", "find.customer")
    assert re.fullmatch(r"crm__find_customer_[a-z2-7]{10}", exposed_name("crm", "find.customer"))
