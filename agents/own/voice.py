"""How the tool loop speaks to who watches a task of an own agent."""

from __future__ import annotations

from collections.abc import Sequence

from agents.hosting.live import Live
from llm.pieces import Piece, Refusal, Text
from llm.types import Finished, Listing, Offer, ToolOutcome

TOOL = "urn:hubbub:tool"
"""The member of a status's metadata that names the tool that was called last."""


class AgentVoice:
    """The loop's voice in A2A events (llm.ports.Voice)."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._texts: list[str] = []
        self._is_new_round = False
        self.finished: Finished | None = None

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self._texts)

    async def begin(self, _listings: Sequence[Listing]) -> None:
        """The task is at work already."""

    async def say(self, piece: Piece, _offer: Offer | None = None) -> None:
        """Write the answer's text, and leave out what is between the model and its tools."""
        if not isinstance(piece, Text | Refusal) or not piece.text:
            return
        text = f"\n\n{piece.text}" if self._is_new_round and self._texts else piece.text
        self._is_new_round = False
        self._texts.append(text)
        await self._live.write({"text": text})

    async def called(self, outcome: ToolOutcome) -> None:
        """Say which tool was called; its result is for the model."""
        self._is_new_round = True
        told = {"name": outcome.call.name, "failed": outcome.failed}
        self._live.reach("WORKING", metadata={TOOL: told})

    async def finish(self, finished: Finished) -> None:
        """Note how it ended."""
        self.finished = finished
