"""The list of what providers keep: of its owner and the owner's team, in pages, without what has expired."""

from __future__ import annotations

import time

import pytest
from sqlmodel import func, select

from registry.access import Grants
from registry.identity import Principal
from registry.sealed.provider_objects import Listing, ProviderObjects
from registry.store.db import Database
from registry.store.tables.sealed import ProviderObject


def principal(name: str, team: str | None = None) -> Principal:
    return Principal(id=name, name=name, grants=Grants(()), team_id=team)


ANN, BOB, CAT = principal("ann", "red"), principal("bob", "red"), principal("cat")


@pytest.fixture
def objects(database: Database) -> ProviderObjects:
    return ProviderObjects(database)


def seen(name: str, owner: Principal = ANN, **members: object) -> ProviderObject:
    row = {"id": f"hub-{name}", "kind": "file", "place": "p", "name": name, "purpose": "batch", "shown": "{}"}
    return ProviderObject(owner=owner.id, team=owner.team_id, **{**row, **members})


async def listed(objects: ProviderObjects, who: Principal, **members: object) -> list[str]:
    rows, _ = await objects.page(Listing(**{"kind": "file", "limit": 10, **members}), who)  # type: ignore[arg-type]
    return [row.id for row in rows]


async def test_a_list_holds_what_is_the_owners_and_the_teams(objects: ProviderObjects) -> None:
    await objects.note(seen("a"))
    await objects.note(seen("b", CAT))
    await objects.note(seen("c", kind="batch"))
    assert await listed(objects, ANN) == await listed(objects, BOB) == ["hub-a"]
    assert await listed(objects, CAT) == ["hub-b"]
    assert await listed(objects, principal("dan", "blue")) == []
    assert await listed(objects, ANN, purpose="other") == []
    assert await objects.ids("file", "p", ["a", "b", "x"], BOB) == {"a": "hub-a"}
    assert await objects.ids("file", "elsewhere", ["a"], ANN) == {}


async def test_what_has_expired_is_neither_listed_nor_kept(objects: ProviderObjects, database: Database) -> None:
    await objects.note(seen("a", expires_at=time.time() - 1))
    await objects.note(seen("b", expires_at=time.time() + 1000))
    assert await listed(objects, ANN) == ["hub-b"]
    await objects.note(seen("c"))
    count = select(func.count()).select_from(ProviderObject)
    assert await database.read(lambda session: session.exec(count).one()) == 2


async def test_a_thing_that_is_seen_again_keeps_its_owner_and_its_place_in_the_list(objects: ProviderObjects) -> None:
    await objects.note(seen("a", shown=None))
    await objects.note(seen("b"))
    await objects.note(seen("a", CAT, shown='{"status":"new"}'))
    await objects.note(seen("a", shown=None))
    rows, _ = await objects.page(Listing(kind="file", limit=10), ANN)
    assert [(row.id, row.shown) for row in rows] == [("hub-b", "{}"), ("hub-a", '{"status":"new"}')]
    assert await listed(objects, CAT) == []


async def test_a_list_has_pages_in_both_orders(objects: ProviderObjects) -> None:
    for name in "abc":
        await objects.note(seen(name))
    rows, more = await objects.page(Listing(kind="file", limit=2), ANN)
    assert ([row.name for row in rows], more) == (["c", "b"], True)
    assert await listed(objects, ANN, after="hub-b") == ["hub-a"]
    assert await listed(objects, ANN, after="hub-b", oldest_first=True) == ["hub-c"]
    assert await listed(objects, ANN, after="hub-nothing") == []


async def test_a_thing_is_counted_once_and_forgotten_whole(objects: ProviderObjects) -> None:
    await objects.note(seen("a"))
    assert [await objects.meter("hub-a") for _ in range(3)] == [True, False, False]
    assert not await objects.meter("hub-x")
    await objects.forget("hub-a")
    assert await listed(objects, ANN) == []
