"""A task as its events make it, and the events that lead from one state of it to another. Pure, on A2A 1.0 JSON.

A hub that missed events of a task has the agent's snapshot afterwards; what a client must still be told is the difference.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from registry.judged import JsonObject


def apply(task: JsonObject | None, event: JsonObject) -> JsonObject | None:
    """The task after one more `StreamResponse`; None while there is none (a stream of one message)."""
    whole = event.get("task")
    if isinstance(whole, dict):
        return whole
    if task is None:
        return None
    update = event.get("statusUpdate")
    if isinstance(update, dict):
        return _with_status(task, update)
    update = event.get("artifactUpdate")
    if isinstance(update, dict) and isinstance(update.get("artifact"), dict):
        return _with_artifact(task, update)
    return task


def _with_status(task: JsonObject, update: JsonObject) -> JsonObject:
    changed = {**task, "status": update.get("status") or {}}
    before = (task.get("status") or {}).get("message")
    if isinstance(before, dict):  # a status message that is replaced moves to the history (A2A 1.0 §4.1.1)
        changed["history"] = [*(task.get("history") or []), before]
    if isinstance(update.get("metadata"), dict):
        changed["metadata"] = {**(task.get("metadata") or {}), **update["metadata"]}
    return changed


def _with_artifact(task: JsonObject, update: JsonObject) -> JsonObject:
    artifact = update["artifact"]
    artifacts = list(task.get("artifacts") or [])
    index = _index(artifacts, artifact.get("artifactId"))
    if index is None:
        artifacts.append(artifact)
    elif update.get("append"):
        old = artifacts[index]
        grown = {**old, **artifact, "parts": [*_parts(old), *_parts(artifact)]}
        if isinstance(old.get("metadata"), dict):
            grown["metadata"] = {**old["metadata"], **(artifact.get("metadata") or {})}
        artifacts[index] = grown
    else:
        artifacts[index] = artifact
    return {**task, "artifacts": artifacts}


def difference(known: JsonObject | None, now: JsonObject) -> list[JsonObject]:
    """The events that tell somebody who saw `known` what `now` is: artifacts first, then the status.

    Somebody who saw nothing gets the whole task. That something is gone (an artifact, a member of the metadata) cannot be
    said by events, and is not.
    """
    if known is None:
        return [{"task": now}]
    ids = {"taskId": now.get("id"), "contextId": now.get("contextId", "")}
    events: list[JsonObject] = []
    old = _numbered(known)
    for name, artifact in _numbered(now).items():
        if name not in old:
            events.append({"artifactUpdate": {**ids, "artifact": artifact, "append": False, "lastChunk": True}})
        elif old[name] != artifact:
            events.append({"artifactUpdate": {**ids, **_growth(old[name], artifact), "lastChunk": True}})
    metadata = _news(known.get("metadata") or {}, now.get("metadata") or {})
    if metadata or _status_key(known) != _status_key(now):
        update = {**ids, "status": now.get("status") or {}}
        events.append({"statusUpdate": {**update, "metadata": metadata} if metadata else update})
    return events


def _growth(old: JsonObject, new: JsonObject) -> JsonObject:
    """What an artifact gained, or all of it if it was written anew."""
    before, after = _parts(old), _parts(new)
    same_head = {name: value for name, value in old.items() if name != "parts"} == {
        name: value for name, value in new.items() if name != "parts"
    }
    if same_head and after[: len(before)] == before:
        return {"artifact": {**new, "parts": after[len(before) :]}, "append": True}
    return {"artifact": new, "append": False}


def _numbered(task: JsonObject) -> dict[tuple[Any, int], JsonObject]:
    """A task's artifacts by their ids; odd agents give several the same one, and their order tells those apart."""
    found: dict[tuple[Any, int], JsonObject] = {}
    times: Counter[Any] = Counter()
    for artifact in task.get("artifacts") or []:
        artifact_id = artifact.get("artifactId")
        found[artifact_id, times[artifact_id]] = artifact
        times[artifact_id] += 1
    return found


def _news(old: JsonObject, new: JsonObject) -> JsonObject:
    return {name: value for name, value in new.items() if name not in old or old[name] != value}


def _status_key(task: JsonObject) -> tuple[Any, Any]:
    """What makes a status another one; agents restate the time of the same state, and odd ones name no message."""
    status = task.get("status") or {}
    message = status.get("message")
    return status.get("state"), (message.get("messageId") or message) if isinstance(message, dict) else None


def _parts(artifact: JsonObject) -> list[Any]:
    parts = artifact.get("parts")
    return parts if isinstance(parts, list) else []


def _index(artifacts: list[Any], artifact_id: object) -> int | None:
    for index, one in enumerate(artifacts):
        if isinstance(one, dict) and one.get("artifactId") == artifact_id:
            return index
    return None
