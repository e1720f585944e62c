"""How long one process of the hub takes to obey what another one changed, both under load.

`python -m tests.bench.obeyed` prints the longest of so many changes of each kind, in milliseconds, from the answer to the change
until the first request that the other process answers by it.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from tests.bench.cases import HUB_YAML, KEY
from tests.bench.processes import Void, free_port
from tests.bench.targets import hub, upstream, write_settings

BUDGET_MS = 1000
CHANGES = 20
"""Of each kind."""

GIVE_UP_S = 30.0
ADMIN_KEY = "sk-admin-of-the-bench-0000000000000000"
LOADERS = 4
"""Clients of each process that ask again and again meanwhile."""

RULE = {"name": "no-bench", "effect": "deny", "entries": ["model:bench"]}
KINDS: dict[str, tuple[tuple[str, str, Any], tuple[str, str, Any]]] = {
    "key": (("PATCH", "keys/k", {"doors": ["mcp"]}), ("PATCH", "keys/k", {"doors": None})),
    "grant": (("PATCH", "keys/k", {"allow": []}), ("PATCH", "keys/k", {"allow": ["model:*"]})),
    "team": (("PATCH", "teams/red", {"allow": []}), ("PATCH", "teams/red", {"allow": None})),
    "policy": (("PUT", "policy", {"rules": [RULE]}), ("PUT", "policy", {"rules": []})),
}
"""What takes a model from a key, and what gives it back."""


def ask(port: int, secret: str, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """One request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def changed(port: int, method: str, path: str, body: Any) -> Any:
    """Change something over the admin API; raises `Void`."""
    status, answer = ask(port, ADMIN_KEY, method, f"/api/{path}", body)
    if status >= 300:
        raise Void(f"{method} {path}: {answer.decode()}")
    return json.loads(answer) if answer else None


def has_model(port: int, secret: str) -> bool:
    """Whether the key is shown the model there."""
    status, answer = ask(port, secret, "GET", "/v1/models")
    return status == 200 and b'"bench"' in answer


@contextmanager
def loaded(ports: list[int]) -> Iterator[None]:
    """Processes that are asked all the time."""
    ending = threading.Event()

    def load(port: int) -> None:
        while not ending.is_set():
            ask(port, KEY, "GET", "/v1/models")

    threads = [threading.Thread(target=load, args=(port,)) for port in ports for _ in range(LOADERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def measure(directory: Path, cores: tuple[int, int], upstream_port: int) -> dict[str, Any]:
    """Change and look, kind by kind; raises `Void` when something was not obeyed at all."""
    directory = Path(mkdtemp(dir=directory))
    text = HUB_YAML.replace("hub:\n", f"hub:\n  admin_key: {ADMIN_KEY}\n", 1)
    settings, here = write_settings(directory, upstream_port, text)
    there = free_port()
    with ExitStack() as stack:
        stack.enter_context(hub(directory, cores[1], (settings, here)))
        stack.enter_context(hub(directory, cores[0], (settings, there)))
        changed(here, "POST", "teams", {"alias": "red"})
        secret = changed(here, "POST", "keys", {"name": "k", "allow": ["model:*"], "team": "red"})["key"]
        stack.enter_context(loaded([here, there]))
        taken = {
            kind: [took(here, there, secret, change, wanted) for change, wanted in both * (CHANGES // 2)]
            for kind, both in turns()
        }
    kinds = {kind: {"max": max(times), "median": median(times)} for kind, times in taken.items()}
    return {"budget_ms": BUDGET_MS, "changes": CHANGES, "clients": LOADERS, "ms": kinds}


def turns() -> Iterator[tuple[str, list[tuple[tuple[str, str, Any], bool]]]]:
    """Each kind with its two changes, and whether the key has the model afterwards."""
    for kind, (taking, giving) in KINDS.items():
        yield kind, [(taking, False), (giving, True)]


def took(here: int, there: int, secret: str, change: tuple[str, str, Any], wanted: bool) -> float:
    """Milliseconds until a change that was made here is obeyed there."""
    changed(here, *change)
    began = time.perf_counter()
    if has_model(here, secret) is not wanted:
        raise Void(f"{change[1]} is not obeyed by the next request where it was made")
    while has_model(there, secret) is not wanted:
        if time.perf_counter() - began > GIVE_UP_S:
            raise Void(f"{change[1]} is not obeyed by the other process")
    return (time.perf_counter() - began) * 1000


def main() -> None:
    with TemporaryDirectory(prefix="hubbub-bench-") as directory, upstream(Path(directory), 0) as mock:
        print(json.dumps(measure(Path(directory), (0, 1), mock.port), indent=1))


if __name__ == "__main__":
    main()
