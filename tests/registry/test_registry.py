import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlmodel import select

from registry import registry as registry_module
from registry.callers.keys import Keys
from registry.declared.config import Declared
from registry.entries import Agent, Server, Toolset
from registry.errors import Conflict, InvalidRequest, NotFound
from registry.identity import KeySpec
from registry.registry import Registry
from registry.sealed.secrets import Sealer, digest
from registry.store.db import Database, open_database
from registry.store.tables.hub import Change
from registry.trust.listings import Listed

SEALER = Sealer([b"k" * 32])
BODY = {"url": "https://a.example", "headers": {"Authorization": "Bearer upstream-secret"}}
FILE = Declared(
    agents={"mine": Agent(name="mine", url="http://file.example")},
    servers={"tools": Server(name="tools", url="http://file.example/mcp", allowed_tools=("get_*",))},
    toolsets={"set": Toolset(name="set")},
)


@pytest.fixture
async def registry(database: Database) -> Registry:
    made = Registry(database, SEALER, Keys(database))
    await made.follow_file(FILE)
    return made


@asynccontextmanager
async def another(address: str, sealer: Sealer = SEALER) -> AsyncIterator[Registry]:
    """A registry of another process on the same database."""
    async with open_database(address) as database:
        made = Registry(database, sealer, Keys(database))
        await made.follow_file(Declared())
        yield made


@asynccontextmanager
async def watching(registry: Registry) -> AsyncIterator[asyncio.Queue[int]]:
    """Run `watch`; yields the numbers of the catalogs that it brings."""
    numbers: asyncio.Queue[int] = asyncio.Queue()
    registry.subscribe(lambda _old, new: numbers.put_nowait(new.number))
    task = asyncio.create_task(registry.watch())
    try:
        async with asyncio.timeout(20):
            yield numbers
    finally:
        task.cancel()


async def test_what_was_put_is_there_at_once_and_in_a_new_snapshot(registry: Registry) -> None:
    before = registry.catalog
    await registry.put("agent", "late", BODY, trusted=False)
    assert "late" not in before.agents
    assert registry.catalog.agents["late"].url == "https://a.example"
    assert registry.catalog.number == before.number + 1
    assert await registry.body("agent", "late") == BODY


async def test_what_was_put_survives_a_restart(registry: Registry, address: str) -> None:
    await registry.put("agent", "late", BODY, trusted=True)
    async with another(address) as restarted:
        assert restarted.catalog.agents["late"].trusted


async def test_credentials_are_not_readable_in_the_database_file(registry: Registry, address: str) -> None:
    await registry.put("agent", "late", BODY, trusted=True)
    path = address.removeprefix("sqlite:///")
    with open(path, "rb") as main, open(f"{path}-wal", "rb") as log:
        assert b"upstream-secret" not in main.read() + log.read()


async def test_an_entry_that_no_key_opens_is_left_out_and_the_others_work(registry: Registry, address: str) -> None:
    await registry.put("agent", "late", BODY, trusted=True)
    async with another(address, Sealer([b"o" * 32])) as other:
        assert "late" not in other.catalog.agents
        await other.put("agent", "later", BODY, trusted=True)
        assert "later" in other.catalog.agents


async def test_a_taken_name_is_refused(registry: Registry) -> None:
    await registry.put("agent", "late", BODY, trusted=True)
    for kind, name in (("agent", "late"), ("agent", "mine"), ("server", "set")):
        with pytest.raises(Conflict):
            await registry.put(kind, name, BODY, trusted=True)


async def test_a_bad_body_leaves_nothing_behind(registry: Registry) -> None:
    with pytest.raises(InvalidRequest):
        await registry.put("server", "late", {"command": "sh"}, trusted=True)
    assert await registry.body("server", "late") is None


async def test_the_file_wins_over_a_stored_entry_of_its_name_and_says_so(registry: Registry) -> None:
    await registry.put("agent", "late", BODY, trusted=True)
    await registry.follow_file(Declared(agents={"late": Agent(name="late", url="http://file.example")}))
    assert registry.catalog.agents["late"].url == "http://file.example"
    assert registry.catalog.shadowed == {("agent", "late")}
    await registry.follow_file(Declared())
    assert registry.catalog.agents["late"].url == "https://a.example"


async def test_servers_and_toolsets_share_their_names_whoever_wrote_them(registry: Registry) -> None:
    await registry.put("server", "one", {"url": "https://a.example/mcp"}, trusted=True)
    await registry.put("toolset", "two", {"tools": ["one__*"]}, trusted=False)
    for kind, name, body in (("toolset", "one", {"tools": []}), ("server", "two", {"url": "https://a.example/mcp"})):
        with pytest.raises(Conflict):
            await registry.put(kind, name, body, trusted=True)  # type: ignore[arg-type]
    await registry.follow_file(
        Declared(
            toolsets={"one": Toolset(name="one", tools=("x__*",))},
            servers={"two": Server(name="two", url="http://file.example")},
        )
    )
    assert registry.catalog.shadowed == {("server", "one"), ("toolset", "two")}
    assert (set(registry.catalog.servers), set(registry.catalog.toolsets)) == ({"two"}, {"one"})
    await registry.follow_file(Declared())
    assert (set(registry.catalog.servers), set(registry.catalog.toolsets)) == ({"one"}, {"two"})


async def test_what_the_file_owns_is_not_changed_here(registry: Registry) -> None:
    with pytest.raises(Conflict, match="file"):
        await registry.delete("agent", "mine")
    with pytest.raises(Conflict, match="file"):
        await registry.replace("agent", "mine", BODY, trusted=True)
    with pytest.raises(NotFound):
        await registry.delete("agent", "nobody")


async def test_switching_off_works_on_everything_at_once_and_lastingly(registry: Registry, database: Database) -> None:
    await registry.switch("agent", "mine", on=False)
    assert "mine" not in registry.catalog.agents
    restarted = Registry(database, SEALER, Keys(database))
    await restarted.follow_file(FILE)
    assert "mine" not in restarted.catalog.agents
    await restarted.switch("agent", "mine", on=True)
    assert "mine" in restarted.catalog.agents


async def test_replaced_and_deleted_entries_are_so_at_once(registry: Registry) -> None:
    await registry.put("server", "late", {"url": "https://a.example/mcp"}, trusted=True)
    await registry.set_listing("late", [Listed("t", "late__t", b"{}")])
    await registry.replace("server", "late", {"url": "https://b.example/mcp"}, trusted=False)
    assert registry.catalog.servers["late"].url == "https://b.example/mcp"
    assert not registry.catalog.servers["late"].trusted
    await registry.delete("server", "late")
    assert "late" not in registry.catalog.servers
    assert "late__t" not in registry.catalog.tools


async def test_tools_are_listed_in_their_servers_order_without_what_is_not_allowed(registry: Registry) -> None:
    names = ["get_b", "delete_a", "get_a"]
    await registry.set_listing("tools", [Listed(name, f"tools__{name}", b"{}") for name in names])
    assert list(registry.catalog.tools) == ["tools__get_b", "tools__get_a"]
    assert registry.catalog.tools["tools__get_a"].grant_name == "tools__get_a"


async def test_a_tool_that_cannot_be_offered_hides_no_other(registry: Registry) -> None:
    await registry.set_listing("tools", [Listed("get_a", "tools__get_a", b"{}"), Listed("get_b", "", b"", "no schema")])
    assert list(registry.catalog.tools) == ["tools__get_a"]
    assert [found.reason for found in registry.catalog.quarantined] == ["no schema"]


async def test_an_unchanged_listing_makes_no_new_snapshot(registry: Registry) -> None:
    listing = [Listed("get_a", "tools__get_a", b"{}")]
    await registry.set_listing("tools", listing)
    number = registry.catalog.number
    await registry.set_listing("tools", listing)
    assert registry.catalog.number == number


async def test_changes_that_come_together_share_a_snapshot_and_each_is_in_it(registry: Registry) -> None:
    before = registry.catalog.number

    async def put(number: int) -> bool:
        await registry.put("agent", f"agent-{number}", BODY, trusted=False)
        return f"agent-{number}" in registry.catalog.agents

    assert all(await asyncio.gather(*(put(number) for number in range(100))))
    assert registry.catalog.number - before < 50


async def test_listeners_see_the_old_and_the_new_catalog(registry: Registry) -> None:
    seen = []
    registry.subscribe(lambda old, new: seen.append((set(old.agents), set(new.agents))))
    await registry.put("agent", "late", BODY, trusted=True)
    assert seen == [({"mine"}, {"mine", "late"})]


async def test_what_another_process_registers_appears(registry: Registry, address: str) -> None:
    async with watching(registry) as numbers, another(address) as other:
        await other.put("agent", "late", BODY, trusted=True)
        while "late" not in registry.catalog.agents:
            await numbers.get()


async def test_a_change_between_reading_and_watching_is_not_lost(registry: Registry, address: str) -> None:
    async with another(address) as other:
        await other.put("agent", "late", BODY, trusted=True)
    async with watching(registry) as numbers:
        while "late" not in registry.catalog.agents:
            await numbers.get()


async def test_a_key_that_another_process_revokes_is_forgotten(registry: Registry, address: str) -> None:
    _, secret = await registry.keys.create(KeySpec(name="rita", allow=()))
    hashed = digest(secret.encode())
    assert await registry.keys.find(hashed) is not None
    async with watching(registry) as numbers, another(address) as other:
        await other.keys.revoke("rita")
        await other.put("agent", "after", BODY, trusted=True)  # changes are applied in order: then the key's is too
        while "after" not in registry.catalog.agents:
            await numbers.get()
        assert await registry.keys.find(hashed) is None


async def test_watching_does_not_wait_for_a_writer(registry: Registry, address: str) -> None:
    async with another(address) as other:
        await other.put("agent", "late", BODY, trusted=True)
        with other._database.engine.begin():  # holds the write lock
            async with watching(registry) as numbers:
                while "late" not in registry.catalog.agents:
                    await numbers.get()


async def test_showing_the_catalog_writes_nothing(database: Database, address: str) -> None:
    shown = Registry(database, SEALER, Keys(database))
    await shown.show(Declared(agents=FILE.agents, keys=(KeySpec(name="dev", allow=(), secret="s" * 20),)))
    assert list(shown.all_of("agent")) == ["mine"]
    assert await shown.keys.all_live() == []


async def test_a_tool_that_is_listed_twice_is_the_first_one(registry: Registry) -> None:
    listed = [
        Listed(name, f"tools__{name}", text) for name, text in (("get_a", b"1"), ("get_b", b"2"), ("get_a", b"3"))
    ]
    await registry.set_listing("tools", listed)
    assert [(tool.name, tool.description) for tool in registry.catalog.tools.values()] == [
        ("get_a", b"1"),
        ("get_b", b"2"),
    ]


async def test_old_changes_are_pruned_at_start_and_a_process_that_missed_them_reads_all_anew(
    registry: Registry, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "KEPT_CHANGES", 1)
    _, secret = await registry.keys.create(KeySpec(name="rita", allow=()))
    hashed = digest(secret.encode())
    assert await registry.keys.find(hashed) is not None
    async with another(address) as other:
        await other.keys.revoke("rita")
        await other.put("agent", "late", BODY, trusted=True)
    async with another(address) as restarted:  # the changes of above are gone when this one looks
        kept = await restarted._database.read(lambda session: list(session.exec(select(Change.name)).all()))
        assert kept[0] == "late"
    async with watching(registry) as numbers:
        while "late" not in registry.catalog.agents:
            await numbers.get()
    assert await registry.keys.find(hashed) is None
