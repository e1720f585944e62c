"""What the hub's rules and guards see of a request to an agent, and what they leave of it."""

from __future__ import annotations

from dataclasses import replace

from agents import wire
from agents.members import check_names
from agents.speech import Ask, Speech
from agents.wire import Request
from registry import judged
from registry.entries import Headers
from registry.gate import Permit

_PLAIN = Speech("JSONRPC", "1.0")


async def rewritten(permit: Permit, request: Request, forwarded: Headers) -> Ask | None:
    """Ask them about a request; returns it as it is to be sent in canonical form, None: as it came, and so its answer.

    Raises:
        PolicyRefused, ApprovalRequired: as `Permit.judge`.
        InvalidRequest: readers may read it differently.
    """
    left = await left_of(permit, request, forwarded)
    return wire.canonical(request, forwarded) if left is None and permit.screens else left


async def left_of(permit: Permit, request: Request, forwarded: Headers) -> Ask | None:
    """Likewise; None: it is to be sent as it came, whoever looks at its answer."""
    plain = request.envelope.plain
    if plain is not None and request.envelope.version != "0.3" and permit.passes(plain):
        return None
    said = {} if plain is None else judged.read_object(plain)
    is_all = permit.guards is None or wire.ENVELOPE.issuperset(said)  # a plain one takes along what stands beside those
    if plain is None or request.envelope.version == "0.3":
        ask = wire.canonical(request, forwarded)
        left = await judged_ask(permit, ask)
        return None if left is ask and is_all else left
    params = judged.unambiguous(said["params"])
    check_names(params, _PLAIN)
    made = await permit.judge(params, rewrites=True, screening=True)
    if is_all and (made is params or made is None):
        return None
    return replace(wire.canonical(request, forwarded), params=params if made is None else made, raw=None)


async def judged_ask(permit: Permit, ask: Ask) -> Ask:
    """Likewise, about one in canonical form; returns it as it may be sent."""
    if ask.raw is not None and ask.speech is not None and ask.speech.binding != "GRPC":  # which all read the same
        check_names(judged.unambiguous(ask.raw), ask.speech)
    made = await permit.judge(ask.params, rewrites=True, screening=True)
    return ask if made is ask.params or made is None else replace(ask, params=made, raw=None)
