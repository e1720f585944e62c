"""What answers say of their cost and of limits, in their `hub` member. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llm.types import Finished, Reply
from registry.gate import NOTHING_KNOWN, Usage
from registry.judged import JsonObject, encode

_SHOWN = ("input_tokens", "output_tokens", "cached_tokens", "cache_written_tokens", "reasoning_tokens")


def spent(finished: Finished) -> JsonObject:
    """`hub.usage`: each round of a loop, and what all of them and the hub's own calls cost together.

    A cost is in USD, and null where no price is known: of the whole, if that is so of one round. Tools without a price add nothing.
    """
    costs = [turn.reply.used.cost_usd for turn in finished.fresh]
    known = [cost for cost in costs if cost is not None]
    total = sum(known) + finished.charged_usd if len(known) == len(costs) else None
    return {"rounds": [_round(turn.reply) for turn in finished.fresh], "cost_usd": total}


def total(finished: Finished) -> Usage:
    """What all rounds used together, and what they and the hub's own calls cost."""
    used = [turn.reply.used for turn in finished.fresh]
    counts = {name: [count for one in used if (count := getattr(one, name)) is not None] for name in _SHOWN}
    summed = {name: sum(known) for name, known in counts.items() if known}
    return NOTHING_KNOWN._replace(**summed, cost_usd=spent(finished)["cost_usd"])


def _round(reply: Reply) -> JsonObject:
    counts = {name: count for name in _SHOWN if (count := getattr(reply.used, name)) is not None}
    shown = {"model": reply.model, **counts, "cost_usd": reply.used.cost_usd}
    return shown if reply.deployment is None else {**shown, "deployment": reply.deployment, "attempts": reply.attempts}


def hub_of(usage: JsonObject | None, warnings: Sequence[str]) -> JsonObject:
    """What every `hub` member says: `usage` if it is known, and `limit_warnings` if there are any."""
    hub: JsonObject = {} if usage is None else {"usage": usage}
    return {**hub, "limit_warnings": list(warnings)} if warnings else hub


def with_hub(answer: bytes, usd: float | None, warnings: Sequence[str]) -> bytes:
    """A provider's whole answer, or its event, that ends in a JSON object, with what it cost, if that is known, and warnings.

    An answer that may have a `hub` member of its own is left as it is.
    """
    if (usd is None and not warnings) or answer.rfind(b'"hub"') >= 0:  # `in` takes twice the time
        return answer
    end = answer.rindex(b"}")
    hub = hub_of(None if usd is None else {"cost_usd": usd}, warnings)
    return b"".join((answer[:end], b',"hub":', encode(hub), answer[end:]))
