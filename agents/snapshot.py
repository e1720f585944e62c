"""A task as its events make it, and the events that lead from one state of it to another. Pure, on A2A 1.0 JSON.

A hub that missed events of a task has the agent's snapshot afterwards; what a client must still be told is the difference.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from registry.judged import JsonObject


def apply(task: JsonObject | None, event: JsonObject) -> JsonObject | None:
    """The task after one more `StreamResponse`; None while there is none (a stream of one message).

    It is `task` itself, grown, so that a long stream of chunks costs no more for each than it is long. Events stay as they are.
    """
    whole = event.get("task")
    if isinstance(whole, dict):
        return _own(whole)
    if task is None:
        return None
    update = event.get("statusUpdate")
    if isinstance(update, dict):
        _set_status(task, update)
    update = event.get("artifactUpdate")
    if isinstance(update, dict) and isinstance(update.get("artifact"), dict):
        _set_artifact(task, update)
    return task


def _own(task: JsonObject) -> JsonObject:
    """A task whose lists may grow."""
    own = dict(task)
    if isinstance(own.get("artifacts"), list):
        own["artifacts"] = [_own_artifact(one) if isinstance(one, dict) else one for one in own["artifacts"]]
    if isinstance(own.get("history"), list):
        own["history"] = list(own["history"])
    return own


def _own_artifact(artifact: JsonObject) -> JsonObject:
    return {**artifact, "parts": list(_parts(artifact))} if "parts" in artifact else dict(artifact)


def _set_status(task: JsonObject, update: JsonObject) -> None:
    before = (task.get("status") or {}).get("message")
    if isinstance(before, dict):  # a status message that is replaced moves to the history (A2A 1.0 §4.1.1)
        _list(task, "history").append(before)
    task["status"] = update.get("status") or {}
    if isinstance(update.get("metadata"), dict):
        task["metadata"] = {**(task.get("metadata") or {}), **update["metadata"]}


def _set_artifact(task: JsonObject, update: JsonObject) -> None:
    artifact = update["artifact"]
    artifacts = _list(task, "artifacts")
    index = _index(artifacts, artifact.get("artifactId"))
    if index is None:
        artifacts.append(_own_artifact(artifact))
    elif update.get("append"):
        old = artifacts[index]
        _list(old, "parts").extend(_parts(artifact))
        metadata = old.get("metadata")
        old.update({name: value for name, value in artifact.items() if name != "parts"})
        if isinstance(metadata, dict):
            old["metadata"] = {**metadata, **(artifact.get("metadata") or {})}
    else:
        artifacts[index] = _own_artifact(artifact)


def _list(owner: JsonObject, member: str) -> list[Any]:
    """The list at `member`; a new one in the place of anything else."""
    if not isinstance(owner.get(member), list):
        owner[member] = []
    found: list[Any] = owner[member]
    return found


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
