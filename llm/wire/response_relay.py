"""Items that a provider of the same format makes, as they come: its events, at the places that they have in the hub's answer. Pure."""

from __future__ import annotations

from llm.translate.whole import blocks
from llm.wire.response_items import item_id
from registry.judged import JsonObject

_PARTS = {
    "response.content_part.added": "content",
    "response.reasoning_summary_part.added": "summary",
}
_TEXTS = {
    "response.output_text.delta": ("content", "content_index", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "text"),
}


class Relay:
    """The items of one answer, over all of its rounds."""

    def __init__(self, output: list[JsonObject], token: str) -> None:
        """`output` are the answer's items; `token` begins the ids that are given anew."""
        self._output = output
        self._token = token
        self._places: dict[int, int] = {}
        """By the provider's in this round; an item's first event sets it."""
        self._said: dict[tuple[int, str, int, str], list[str]] = {}
        """Texts of items that are not done, by place, list, number there and member."""

    def moved(self, told: JsonObject) -> JsonObject | None:
        """An event at its place here; None: it is of no item that was begun."""
        kind, theirs = told["type"], told["output_index"]
        event = {name: value for name, value in told.items() if name not in ("type", "sequence_number")}
        if kind == "response.output_item.added":
            return self._begun(event, theirs)
        at = self._places.get(theirs)
        if at is None:
            return None
        event["output_index"] = at
        if "item_id" in event:
            event["item_id"] = self._output[at]["id"]
        if kind == "response.output_item.done":
            event["item"] = self._output[at] = {**event["item"], "id": self._output[at]["id"]}
            self._said = {place: texts for place, texts in self._said.items() if place[0] != at}
        else:
            self._note(kind, at, event)
        return event

    def _begun(self, event: JsonObject, theirs: int) -> JsonObject:
        at = self._places[theirs] = len(self._output)
        name = event["item"].get("id")
        if not isinstance(name, str) or not name or any(item["id"] == name for item in self._output):
            name = item_id(str(event["item"].get("type")), f"{self._token}{at:x}")
        item = {**event["item"], "id": name}
        self._output.append(dict(item))
        return {**event, "output_index": at, "item": item}

    def _note(self, kind: str, at: int, event: JsonObject) -> None:
        if kind in _PARTS:
            member = _PARTS[kind]
            item, part = self._output[at], event.get("part")
            item[member] = [*blocks(item.get(member)), dict(part) if isinstance(part, dict) else {}]
        elif kind in _TEXTS:
            member, index, name = _TEXTS[kind]
            number, text = event.get(index), event.get("delta")
            if isinstance(number, int) and isinstance(text, str):
                self._said.setdefault((at, member, number, name), []).append(text)

    def settle(self) -> None:
        """Put what came so far into the items that are not done."""
        for (at, member, index, name), texts in self._said.items():
            parts = blocks(self._output[at].get(member))
            if 0 <= index < len(parts):
                parts[index][name] = "".join(texts)
