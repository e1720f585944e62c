"""Which calls of a request wait for approval: what its sources demand, and the floors of servers and keys. Pure.

A source's own demand is answered by the caller; a floor by somebody else, whatever the source says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
from msgspec import structs

from llm.types import Demand, Filter, Listing, Offer, OfferedTool, ToolSource
from registry import judged
from registry.access import MAX_GRANT_CHARS, SEPARATOR, matches
from registry.entries import Server
from registry.errors import InvalidRequest
from registry.floors import Answerer, demands
from registry.identity import Principal
from registry.judged import JsonObject
from registry.sealed.secrets import digest
from registry.tool_approvals import Deed

AGENTS = "agent"
"""The server that agents are tools of, which no server is called (surface.md 6)."""

MAX_NAMES = 1000
"""Of one list."""


def read_demand(raw: msgspec.Raw | None, url: str) -> Demand | None:
    """Read `require_approval` of a source: `always`, `never`, or which tools always or never need it; None: unsaid.

    Raises:
        InvalidRequest: it is none of these.
    """
    said = None if raw is None else judged.decode(raw)
    if said is None:
        return None
    if said in ("always", "never"):
        return Demand(otherwise=said == "always")
    if not isinstance(said, dict) or not said or not said.keys() <= {"always", "never"}:
        text = "'always', 'never', or an object of these with tool_names each"
        raise InvalidRequest(f"require_approval of tool source {url!r} must be {text}", member="tools")
    always, never = (_filter(said.get(word), url) for word in ("always", "never"))
    return Demand(always, never, otherwise=True if never is not None else None)


def _filter(said: object, url: str) -> Filter | None:
    if said is None:
        return None
    names = said.get("tool_names") if isinstance(said, dict) else None
    reads = said.get("read_only") if isinstance(said, dict) else None
    is_list = isinstance(names, list) and all(isinstance(name, str) and len(name) <= MAX_GRANT_CHARS for name in names)
    if (
        not isinstance(said, dict)
        or not said
        or not said.keys() <= {"tool_names", "read_only"}
        or not (names is None or is_list)
        or not (reads is None or isinstance(reads, bool))
        or len(names or ()) > MAX_NAMES
    ):
        text = f"objects with tool_names, at most {MAX_NAMES} of {MAX_GRANT_CHARS} characters, and read_only"
        raise InvalidRequest(
            f"always and never in require_approval of tool source {url!r} must be {text}", member="tools"
        )
    return Filter(None if names is None else tuple(names), reads)


def _fits(found: Filter | None, tool: OfferedTool) -> bool:
    if found is None:
        return False
    if found.read_only is not None and found.read_only != _is_read_only(tool):
        return False
    names = (tool.name, tool.exposed)
    return found.names is None or any(matches(glob, name) for glob in found.names for name in names)


def is_demanded(demand: Demand | None, tool: OfferedTool, *, unsaid: bool) -> bool:
    """Whether a source demands approval of a tool's calls; `unsaid`: what holds where it does not say."""
    if demand is None:
        return unsaid
    if _fits(demand.always, tool):
        return True
    if _fits(demand.never, tool):
        return False
    return unsaid if demand.otherwise is None else demand.otherwise


def _is_read_only(tool: OfferedTool) -> bool:
    return tool.annotations.get("readOnlyHint") is True


def is_destructive(tool: OfferedTool) -> bool:
    """Whether a tool may destroy: it says so, or says neither this nor that it only reads (MCP, ToolAnnotations)."""
    said = tool.annotations.get("destructiveHint")
    return said if isinstance(said, bool) else not _is_read_only(tool)


def _may_demand(demand: Demand | None, *, unsaid: bool) -> bool:
    if demand is None:
        return unsaid
    return demand.always is not None or demand.otherwise is True or (demand.otherwise is None and unsaid)


def _entry(tool: OfferedTool) -> tuple[str, str]:
    """Kind and name as grants and rules have them."""
    return ("agent", tool.name) if tool.server == AGENTS else ("tool", f"{tool.server}{SEPARATOR}{tool.name}")


class Rules:
    """The rules for one request of a principal."""

    def __init__(
        self, servers: Callable[[], Mapping[str, Server]], principal: Principal, listings: Sequence[Listing]
    ) -> None:
        self._servers = servers
        self._principal = principal
        self._listings = listings
        self._elsewhere = {
            offer.tool.exposed: one.source.url
            for one in listings
            if one.source.foreign is not None
            for offer in one.offers
        }
        """Addresses of servers that the request brought along, by the names of their tools."""

    def over(self, *, unsaid: bool) -> list[Listing]:
        """The listings, each tool with who has to approve its calls."""
        if not self._has_floors() and not any(
            _may_demand(one.source.approval, unsaid=unsaid) for one in self._listings
        ):
            return list(self._listings)  # most requests, and some have many tools
        return [
            replace(one, offers=[self._over(offer, one.source, unsaid=unsaid) for offer in one.offers])
            for one in self._listings
        ]

    def _has_floors(self) -> bool:
        if self._principal.require_approval is not None or self._principal.policy is not None:
            return True
        return any(server.require_approval is not None for server in self._servers().values())

    def _over(self, offer: Offer, source: ToolSource, *, unsaid: bool) -> Offer:
        answerer: Answerer | None = None
        if self._is_floored(offer.tool):
            answerer = "admin"
        elif is_demanded(source.approval, offer.tool, unsaid=unsaid):
            answerer = "caller"
        policy = self._principal.policy
        is_ruled = policy is not None and policy.wants_approval(*_entry(offer.tool), None)
        if answerer is None and not is_ruled:
            return offer
        return replace(offer, answerer=answerer, is_ruled=is_ruled)

    def answerer(self, offer: Offer, arguments: JsonObject) -> Answerer | None:
        """Who has to approve one call; None: nobody."""
        policy = self._principal.policy
        if offer.is_ruled and policy is not None and policy.wants_approval(*_entry(offer.tool), arguments):
            return "admin"
        return offer.answerer

    def approved(self, offer: Offer, arguments: JsonObject, principal: Principal) -> Principal:
        """Who makes a call that was approved: the hub's rules ask for it no more."""
        policy = principal.policy
        if policy is None or not offer.is_ruled:
            return principal
        return structs.replace(principal, policy=policy.approved(*_entry(offer.tool), arguments))

    def _is_floored(self, tool: OfferedTool) -> bool:
        server = self._servers().get(tool.server)
        of_server = None if server is None else server.require_approval
        whole = f"{tool.server}{SEPARATOR}{tool.name}"
        destroys = is_destructive(tool)
        return demands(of_server, tool.name, destructive=destroys) or demands(
            self._principal.require_approval, whole, destructive=destroys
        )

    def deed(self, tool: OfferedTool, arguments: JsonObject) -> Deed:
        """A call as it is approved: under the rules and the description of this moment."""
        server = self._servers().get(tool.server)
        policy = [
            None if server is None else server.require_approval,
            self._principal.require_approval,
            tool.description,
            tool.input_schema,
            tool.annotations,
            self._elsewhere.get(tool.exposed),
        ]
        rules = self._principal.policy
        if rules is not None and rules.wants_approval(*_entry(tool), None):
            policy.append(rules.digest)
        version = digest(msgspec.json.encode(policy, order="sorted"))
        return Deed(server=tool.server, tool=tool.name, arguments=arguments, policy=version)
