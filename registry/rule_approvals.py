"""What becomes of a call that a rule has approved first: it waits in the inbox, and its caller makes it again."""

from __future__ import annotations

import time

from registry.access import OF_SERVERS, SEPARATOR
from registry.errors import ApprovalRequired
from registry.gate import Permit
from registry.judged import JsonObject
from registry.tool_approvals import Deed, ToolApprovals


class Inbox:
    """Asks for the approvals that rules demand. One for a process."""

    def __init__(self, approvals: ToolApprovals, *, hours: float) -> None:
        """An approval holds, and waits, for `hours`."""
        self._approvals = approvals
        self._lasts_s = hours * 3600

    async def approve(self, permit: Permit, said: JsonObject, needed: ApprovalRequired, *, is_more: bool) -> None:
        """Let a call pass that was approved as it is sent; raises `ApprovalRequired` with the approval that it waits for."""
        server, mark, tool = permit.entry_name.partition(SEPARATOR)
        if permit.kind not in OF_SERVERS or not mark:
            server, tool = permit.kind, permit.entry_name
        rules = permit.principal.policy
        policy = rules.digest if rules is not None else ""
        # arguments may read like all that is said of another call
        deed = Deed(server=server, tool=tool, arguments=said, policy=f"{policy} with more" if is_more else policy)
        waiting = await self._approvals.claim(deed, permit.principal, until=time.time() + self._lasts_s)
        if waiting is not None:
            raise ApprovalRequired(needed.rule, needed.reason, waiting.id)
