"""Chat messages of OpenAI's form as parts for an agent, and what an agent tells as text. Pure.

Parts are those of A2A 1.0 (§4.1.6), decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from agents import snapshot
from registry.errors import InvalidRequest
from registry.judged import JsonObject, encode

_PROMPTS = frozenset({"system", "developer"})
_AUDIO = {"mp3": "audio/mpeg"}


class Asked(NamedTuple):
    """What a list of chat messages asks an agent."""

    parts: list[JsonObject]
    """Of what is new: what the user says after the assistant's last message."""
    earlier: list[JsonObject]
    """The messages before it, with the assistant's last one; empty: the conversation begins."""


def read_messages(messages: object) -> Asked:
    """Read a request's `messages`; raises `InvalidRequest` for what no agent can be told."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise InvalidRequest("messages must be a list of objects", member="messages")
    said = max((at for at, one in enumerate(messages) if one.get("role") == "assistant"), default=-1)
    earlier, new = messages[: said + 1], messages[said + 1 :]
    parts: list[JsonObject] = []
    for message in new:
        if message.get("role") not in {"user", *_PROMPTS}:
            raise InvalidRequest(f"an agent takes no message of role {message.get('role')!r}", member="messages")
        parts += _parts(message.get("content"))
    if not parts or new[-1].get("role") != "user":
        raise InvalidRequest("the last message must be the user's: an agent answers it", member="messages")
    return Asked(parts, earlier)


def _parts(content: object) -> Iterator[JsonObject]:
    if isinstance(content, str):
        yield {"text": content}
        return
    for part in content if isinstance(content, list) else []:
        kind = part.get("type") if isinstance(part, dict) else None
        read = _READERS.get(kind) if isinstance(kind, str) else None
        found = read(part) if read is not None else None
        if found is None:
            raise InvalidRequest(f"an agent cannot be told this content part of type {kind!r}", member="messages")
        yield found


def _text(part: JsonObject) -> JsonObject | None:
    text = part.get("text")
    return {"text": text} if isinstance(text, str) else None


def _image(part: JsonObject) -> JsonObject | None:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return _file(url) if isinstance(url, str) else None


def _file(url: str) -> JsonObject | None:
    """An address, or the bytes that a `data:` URL holds."""
    if not url.startswith("data:"):
        return {"url": url} if url.startswith(("https://", "http://")) else None
    head, comma, raw = url.removeprefix("data:").partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options:
        return None
    return {"raw": raw, "mediaType": media_type or "text/plain"}


def _audio(part: JsonObject) -> JsonObject | None:
    audio = part.get("input_audio")
    if not isinstance(audio, dict) or not isinstance(audio.get("data"), str):
        return None
    form = str(audio.get("format"))
    return {"raw": audio["data"], "mediaType": _AUDIO.get(form, f"audio/{form}")}


def _document(part: JsonObject) -> JsonObject | None:
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data, str):  # a file_id is a provider's, and no agent can read it
        return None
    found = _file(data) if data.startswith("data:") else {"raw": data, "mediaType": "application/octet-stream"}
    name = file.get("filename") if isinstance(file, dict) else None
    return {**found, "filename": name} if found is not None and isinstance(name, str) else found


def _data(part: JsonObject) -> JsonObject | None:
    return {"data": part["data"]} if "data" in part else None


_READERS: Mapping[str, Callable[[JsonObject], JsonObject | None]] = {
    "text": _text,
    "image_url": _image,
    "input_audio": _audio,
    "file": _document,
    "data": _data,
}


def transcript(earlier: Sequence[JsonObject]) -> JsonObject:
    """A part that tells an agent what was said before, elsewhere."""
    lines = [f"{message.get('role')}: {_plain(message.get('content'))}" for message in earlier]
    return {"text": "\n".join(("This conversation went so far:", *lines))}


def digest(messages: Sequence[JsonObject]) -> bytes:
    """What a conversation is found again by: who said what, without what clients add to messages or leave out."""
    found = hashlib.sha256()
    for message in messages:
        found.update(encode([message.get("role"), _plain(message.get("content")).strip()]))
    return found.digest()


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") if isinstance(part, dict) else None for part in parts)
    return "\n".join(
        text if isinstance(text, str) else encode(part).decode() for text, part in zip(texts, parts, strict=True)
    )


class Telling:
    """What an agent tells of one message, as one text that grows."""

    def __init__(self) -> None:
        self.attachments: list[JsonObject] = []
        """The parts that are no text, whole."""
        self._pieces: list[str] = []
        self._task: JsonObject | None = None
        self._block: list[str] = []
        """What is said at the moment, by `_speaker`: an artifact, or a message."""
        self._speaker: object = None
        self._said: set[str] = set()
        """The blocks before it."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    def feed(self, event: JsonObject) -> str:
        """Take a `StreamResponse` or a whole answer, and return what its listener must be told more.

        What an agent says again word by word, as many end with what they streamed, is told once.
        """
        before = len(self._pieces)
        whole = event.get("task")
        news = snapshot.difference(self._task, whole) if isinstance(whole, dict) else [event]
        for one in news:
            self._hear(one)
            self._task = snapshot.apply(self._task or _begun(one), one)
        return "".join(self._pieces[before:])

    def _hear(self, event: JsonObject) -> None:
        task, update = event.get("task"), event.get("artifactUpdate")
        if isinstance(task, dict):
            for artifact in task.get("artifacts") or ():
                self._say(("artifact", artifact.get("artifactId")), artifact, goes_on=False)
            self._say_status(task)
        elif isinstance(update, dict):
            artifact = update.get("artifact") or {}
            self._say(("artifact", artifact.get("artifactId")), artifact, goes_on=bool(update.get("append")))
        elif isinstance(event.get("statusUpdate"), dict):
            self._say_status(event["statusUpdate"])
        elif isinstance(event.get("message"), dict):
            self._say(None, event["message"], goes_on=False)

    def _say_status(self, owner: JsonObject) -> None:
        self._say(None, (owner.get("status") or {}).get("message") or {}, goes_on=False)

    def _say(self, speaker: object, owner: JsonObject, *, goes_on: bool) -> None:
        parts = [part for part in owner.get("parts") or () if isinstance(part, dict)]
        others = [part for part in parts if not isinstance(part.get("text"), str)]
        text = "".join(map(_shown, parts))
        if not (goes_on and speaker == self._speaker):
            text = self._begin(text)
            self._speaker = speaker if text else self._speaker
        if text:
            self._block.append(text)
            self._pieces.append(text)
        self.attachments += [part for part in others if part not in self.attachments]

    def _begin(self, text: str) -> str:
        """Begin another block with `text`; empty: it was said before, and the last one may go on."""
        if not text:
            return ""
        self._said.add("".join(self._block).strip())
        if text.strip() in self._said:
            return ""
        if self._block:
            self._pieces.append("\n\n")
        self._block = []
        return text


def _shown(part: JsonObject) -> str:
    """A part in text; bytes by their name only."""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    url = part.get("url")
    if isinstance(url, str):
        return f"[{part.get('filename') or url}]({url})\n"
    if "data" in part:
        return f"```json\n{encode(part['data']).decode()}\n```\n"
    return f"[{part.get('filename') or 'file'}, {part.get('mediaType') or 'application/octet-stream'}]\n"


def _begun(event: JsonObject) -> JsonObject | None:
    update = event.get("statusUpdate") or event.get("artifactUpdate")
    return {"id": update.get("taskId"), "contextId": update.get("contextId")} if isinstance(update, dict) else None
