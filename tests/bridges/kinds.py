"""All platforms that the suite runs against."""

from __future__ import annotations

from tests.peers.platforms.langgraph_server import LANGGRAPH
from tests.peers.platforms.openai_chat import OPENAI_CHAT
from tests.peers.platforms.platform import Kind

KINDS: tuple[Kind, ...] = (LANGGRAPH, OPENAI_CHAT)
