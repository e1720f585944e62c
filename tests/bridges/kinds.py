"""All platforms that the suite runs against."""

from __future__ import annotations

from tests.peers.platforms.a2a_agent import A2A
from tests.peers.platforms.adk_server import ADK
from tests.peers.platforms.ag_ui_server import AG_UI
from tests.peers.platforms.agentcore import AGENTCORE
from tests.peers.platforms.azure_threads import AZURE_THREADS
from tests.peers.platforms.bedrock_agents import BEDROCK_AGENTS
from tests.peers.platforms.fasta2a_server import FASTA2A
from tests.peers.platforms.http_agent import HTTP
from tests.peers.platforms.langgraph_server import LANGGRAPH, LANGGRAPH_A2A
from tests.peers.platforms.mcp_server import MCP, MCP_OLDER
from tests.peers.platforms.openai_chat import OPENAI_CHAT
from tests.peers.platforms.platform import Kind, Property
from tests.peers.platforms.responses_api import AZURE, OPENAI_RESPONSES
from tests.peers.platforms.vertex_engine import VERTEX

KINDS: tuple[Kind, ...] = (
    A2A,
    ADK,
    AG_UI,
    AZURE,
    AZURE_THREADS,
    AGENTCORE,
    BEDROCK_AGENTS,
    HTTP,
    LANGGRAPH,
    LANGGRAPH_A2A,
    MCP,
    MCP_OLDER,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    FASTA2A,
    VERTEX,
)

PROPERTIES: dict[Property, str] = {
    "memory": "what was said in a context is known in it, and nowhere else",
    "streams": "the first piece of an answer comes before the agent ends; who leaves comes back and misses nothing",
    "files": "files reach the agent, and come back",
    "data": "data parts reach the agent",
    "failure": "a failure is `failed`, with the platform's reason",
    "asks": "a question is `input-required`, and its answer reaches the agent",
    "cancel": "cancelling a task ends it on the platform",
    "rejoin": "a hub that was killed and started again reads on what the platform still does",
    "isolation": "two callers share neither contexts nor sessions",
    "odd": "answers are read however odd their reference lets them be: members, events and comments that nobody knows, events of things that nobody knows or that are over, cut anywhere",
    "busy": "a platform that is busy is asked again, or its caller told when to",
    "renews": "a token that expires is renewed, once for all who wait",
    "expires": "a token that expires in mid-stream is renewed once, and the task goes on, or it has failed and says so; nothing is done twice",
    "down": "a platform that is down is a failure that names the agent and no address",
}
