"""What the agents on all platforms of the tests do, told in words, so that one suite can ask the same of each of them.

Plain Python: agents in environments of their own load this file by its path.

* `recall`: what was said before in this conversation
* `hold`: says `first `, waits until it is released, says `last`
* `long N`: N times 1 KiB, and holds
* `fail`: fails
* `ask`: asks `Which colour?`, and says of the answer `You said ANSWER`
* `file`: a file back; `data`: the data back that came
* all else: says it back
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

QUESTION = "Which colour?"
REASON = "the agent fell over"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Fell(Exception):
    """The agent failed."""


class Question(Exception):
    """The agent needs an answer."""


async def say(before: list[str], text: str, released: Callable[[], Awaitable[Any]]) -> AsyncIterator[str]:
    """What the agent says to `text`, in pieces, when `before` was said to it before. Raises Fell, Question."""
    word, _, rest = text.partition(" ")
    if word == "recall":
        yield f"You said: {', '.join(before)}"
    elif word == "hold":
        yield "first "
        await released()
        yield "last"
    elif word == "long":
        for _ in range(int(rest)):
            yield "x" * 1024
        await released()
    elif word == "fail":
        raise Fell(REASON)
    elif word == "ask":
        raise Question(QUESTION)
    else:
        for piece in (text[:4], text[4:]):
            if piece:
                yield piece


def told(answer: str) -> str:
    """What the agent says to the answer to its question."""
    return f"You said {answer}"
