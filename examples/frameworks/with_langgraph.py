"""LangGraph as a client of the hub: a model and tools in a loop, then an A2A agent as a node, called with a2a-sdk.

pip install langgraph langchain-openai langchain-mcp-adapters a2a-sdk
"""

import asyncio
import os

import httpx
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers import get_stream_response_text, new_text_message
from a2a.types import Role, SendMessageRequest
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

HUB = os.environ.get("HUB_URL", "http://127.0.0.1:4000")
KEY = os.environ["HUB_KEY"]
HEADERS = {"Authorization": f"Bearer {KEY}"}


async def tell(state: MessagesState) -> dict[str, list[tuple[str, str]]]:
    """The node that has the A2A agent `storyteller` make a story of what the model said."""
    async with httpx.AsyncClient(headers=HEADERS, timeout=60) as http:
        card = await A2ACardResolver(http, f"{HUB}/a2a/storyteller").get_agent_card()
        client = await create_client(card, ClientConfig(httpx_client=http))
        message = new_text_message(state["messages"][-1].text, role=Role.ROLE_USER)
        events = client.send_message(SendMessageRequest(message=message))
        return {"messages": [("ai", "".join([get_stream_response_text(event) async for event in events]))]}


async def main() -> None:
    """Ask for the time, which a tool knows, and have a story told about the answer."""
    hub = {"url": f"{HUB}/mcp", "transport": "streamable_http", "headers": HEADERS}
    tools = await MultiServerMCPClient({"hub": hub}).get_tools()
    model = ChatOpenAI(model="assistant", base_url=f"{HUB}/v1", api_key=KEY).bind_tools(tools)

    async def think(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node(think).add_node(ToolNode(tools)).add_node(tell)
    graph.add_edge(START, "think").add_edge("tools", "think")
    graph.add_conditional_edges("think", tools_condition, {"tools": "tools", "__end__": "tell"})
    question = "What is the current time in the timezone 'Europe/Berlin'?"
    for message in (await graph.compile().ainvoke({"messages": [("user", question)]}))["messages"]:
        message.pretty_print()


asyncio.run(main())
