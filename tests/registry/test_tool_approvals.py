from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import Any

import pytest

from registry.access import Grants
from registry.callers.keys import Keys
from registry.errors import ApprovalRefused, Conflict, LimitError, NotFound
from registry.gate import Settled
from registry.identity import KeySpec, Principal, admin
from registry.sealed.secrets import Sealer
from registry.store.db import Database
from registry.tool_approvals import Answerer, Approval, Deed, Run, ToolApprovals, Verdict, Wanted, bound

YES, NO = Verdict(True), Verdict(False, "too dear")
HOUR = 3600.0


def principal(name: str, *grants: str) -> Principal:
    return Principal(id=name, name=name.title(), grants=Grants.parse(grants))


ANN, BOB = principal("ann", "admin:approvals"), principal("bob")
BOSS, OTHER_BOSS = principal("boss", "admin:approvals"), principal("boss2", "admin:*")


class Office:
    """Approvals with a clock of this test's, and what they told."""

    def __init__(self, database: Database, *, is_fleeting: bool = False) -> None:
        self.is_fleeting = is_fleeting
        self.now = 1_000_000.0
        self.settled: list[Settled] = []
        self.resumed: list[tuple[str, str]] = []
        self.all = ToolApprovals(
            database, sealer=Sealer([b"k" * 32]), record=self.settled.append, clock=lambda: self.now
        )
        self.all.subscribe("chat", lambda run, principal: self.resumed.append((run, principal)))

    async def ask(self, *deeds: Deed, answerer: Answerer = "admin", run: str = "run_1") -> list[Approval]:
        asked = Run(run, "chat", ANN, self.now + HOUR, is_fleeting=self.is_fleeting)
        return await self.all.ask(asked, [Wanted(one, answerer) for one in deeds])


@pytest.fixture(params=[False, True], ids=["kept", "fleeting"])
def office(database: Database, request: pytest.FixtureRequest) -> Office:
    return Office(database, is_fleeting=request.param)


def deed(**changed: Any) -> Deed:
    return Deed(**{"server": "bank", "tool": "pay", "arguments": {"to": "eve", "sum": 5}, "policy": "p1", **changed})


async def test_an_approved_call_is_made_once_also_when_many_try_at_the_same_time(office: Office) -> None:
    (asked,) = await office.ask(deed())
    assert (asked.state, asked.answerer, asked.arguments) == ("pending", "admin", {"to": "eve", "sum": 5})
    decided = await office.all.decide(asked.id, YES, BOSS)
    assert (decided.state, decided.decided_by, decided.decided_by_name) == ("approved", "boss", "Boss")
    tried = await asyncio.gather(*(office.all.use(asked.id, deed(), ANN) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in tried if one is not None] == [ApprovalRefused] * 4
    assert (await office.all.find(asked.id)).state == "used"


@pytest.mark.parametrize(
    "changed",
    [
        {"server": "bank2"},
        {"tool": "pay_all"},
        {"arguments": {"to": "eve", "sum": 6}},
        {"arguments": {"to": "eve", "sum": 5, "note": ""}},
        {"arguments": {"to": "eve", "sum": "5"}},
        {"policy": "p2"},
    ],
    ids=str,
)
@pytest.mark.attack("2.1/11")
async def test_an_approval_holds_for_nothing_else(office: Office, changed: dict[str, Any]) -> None:
    (asked,) = await office.ask(deed())
    await office.all.decide(asked.id, YES, BOSS)
    with pytest.raises(ApprovalRefused, match="another call"):
        await office.all.use(asked.id, deed(**changed), ANN)
    with pytest.raises(ApprovalRefused):
        await office.all.use(asked.id, deed(), BOB)
    assert [settled.outcome for settled in office.settled] == ["ok", "error", "error"]
    await office.all.use(asked.id, deed(arguments={"sum": 5, "to": "eve"}), ANN)  # the order of members says nothing


async def test_large_numbers_are_bound_too(office: Office) -> None:
    large = deed(arguments={"id": 2**64, "b": [2**60]})
    assert bound(large, "ann") == bound(deed(arguments={"b": [2**60], "id": 2**64}), "ann")
    assert bound(large, "ann") != bound(deed(arguments={"id": 2**64 + 1, "b": [2**60]}), "ann")
    (asked,) = await office.ask(large)
    assert asked.arguments == large.arguments


async def test_a_rule_of_the_hub_is_never_answered_by_who_asked(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    (asked,) = await office.ask(deed())
    with caplog.at_level(logging.WARNING), pytest.raises(ApprovalRefused, match="inbox"):
        await office.all.answer(asked.id, YES, ANN)
    with pytest.raises(ApprovalRefused, match="somebody else"):
        await office.all.decide(asked.id, YES, ANN)
    assert (await office.all.find(asked.id)).state == "pending"
    assert "approval refused" in caplog.text
    assert [(one.principal, one.kind, one.name, one.outcome) for one in office.settled] == [
        ("ann", "approval", "bank__pay", "error"),
        ("ann", "approval", "bank__pay", "error"),
    ]


@pytest.mark.parametrize(("asker", "may"), [("maker", False), ("first", False), ("second", False), ("other", True)])
async def test_nor_by_a_key_of_their_making_nor_by_who_made_theirs(
    office: Office, database: Database, asker: str, may: bool
) -> None:
    keys = Keys(database)

    async def made(name: str, by: Principal | None) -> Principal:
        spec = KeySpec(name=name, allow=("admin:approvals",), created_by=by.id if by else None)
        key, _ = await keys.create(spec)
        return Principal(id=key.id, name=name, grants=Grants.parse(("admin:approvals",)))

    maker = await made("maker", admin())
    first = await made("first", maker)
    people = {"maker": maker, "first": first, "second": await made("second", first), "other": await made("o", admin())}
    (asked,) = await office.all.ask(Run("run_1", "chat", people[asker], office.now + HOUR), [Wanted(deed(), "admin")])
    await keys.revoke("first")  # who made whom is known all the same
    by = people["maker" if asker == "second" else "second"]
    if may:
        assert (await office.all.decide(asked.id, YES, by)).state == "approved"
        return
    with pytest.raises(ApprovalRefused, match="of its making"):
        await office.all.decide(asked.id, YES, by)
    assert (await office.all.decide(asked.id, YES, admin())).state == "approved"


async def test_a_requests_own_demand_is_answered_by_its_caller_or_in_the_inbox(office: Office) -> None:
    first, second = await office.ask(deed(), deed(), answerer="caller")
    with pytest.raises(NotFound):
        await office.all.answer(first.id, YES, BOB)
    assert (await office.all.answer(first.id, YES, ANN)).state == "approved"
    assert office.resumed == []  # its request goes on by itself
    denied = await office.all.decide(second.id, NO, BOSS)
    assert (denied.state, denied.reason) == ("denied", "too dear")
    assert office.resumed == [("run_1", "ann")]
    with pytest.raises(ApprovalRefused, match="denied"):
        await office.all.use(second.id, deed(), ANN)


async def test_only_who_may_approve_hears_of_approvals(office: Office) -> None:
    (asked,) = await office.ask(deed())
    with pytest.raises(NotFound):
        await office.all.decide(asked.id, YES, BOB)
    with pytest.raises(NotFound):
        await office.all.decide("mcpr_none", YES, BOSS)


async def test_a_decision_stands(office: Office) -> None:
    (asked,) = await office.ask(deed())
    tried = await asyncio.gather(
        *(office.all.decide(asked.id, one, who) for one in (YES, NO) for who in (BOSS, OTHER_BOSS)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in tried) == ["Approval", "Conflict", "Conflict", "Conflict"]
    with pytest.raises(Conflict):
        await office.all.decide(asked.id, NO, BOSS)
    assert office.resumed == [("run_1", "ann")]


async def test_a_run_goes_on_when_nothing_of_it_is_pending(office: Office) -> None:
    first, second = await office.ask(deed(), deed())
    await office.ask(deed(), run="run_2")
    await office.all.decide(first.id, YES, BOSS)
    assert office.resumed == []
    await office.all.decide(second.id, NO, BOSS)
    assert office.resumed == [("run_1", "ann")]
    assert [one.state for one in await office.all.of_run("run_1")] == ["approved", "denied"]


async def test_an_approval_ends_in_time_decided_or_not(office: Office) -> None:
    waiting, decided = await office.ask(deed(), deed())
    await office.all.decide(decided.id, YES, BOSS)
    office.now += HOUR
    with pytest.raises(Conflict, match="expired"):
        await office.all.decide(waiting.id, YES, BOSS)
    with pytest.raises(ApprovalRefused, match="expired"):
        await office.all.use(decided.id, deed(), ANN)
    assert [one.id for one in await office.all.page("expired", None, 10)] == [waiting.id, decided.id]
    assert await office.all.page("pending", None, 10) == []


async def run_until(office: Office, count: int) -> None:
    """Let the background work until so many runs were resumed."""
    working = asyncio.create_task(office.all.run())
    async with asyncio.timeout(20):
        while len(office.resumed) < count:
            await asyncio.sleep(0)
    working.cancel()


async def test_runs_that_were_decided_when_nobody_ran_go_on_at_the_next_start(database: Database) -> None:
    office = Office(database)
    (first,) = await office.ask(deed())
    one, two = await office.ask(deed(), deed(), run="run_2")
    await office.ask(deed(), run="run_3")
    await office.all.decide(first.id, YES, BOSS)
    await office.all.decide(one.id, YES, BOSS)
    await office.all.decide(two.id, NO, BOSS)
    again = Office(database)
    await run_until(again, 2)
    assert sorted(again.resumed) == [("run_1", "ann"), ("run_2", "ann")]


async def test_who_waits_is_told_when_an_approval_expires(office: Office) -> None:
    await office.ask(deed(), deed())
    office.now += HOUR
    await run_until(office, 1)
    assert office.resumed == [("run_1", "ann")]
    assert [one.state for one in await office.all.of_run("run_1")] == ["expired", "expired"]


async def test_pages_follow_one_another(office: Office) -> None:
    asked = await office.ask(*(deed() for _ in range(5)))
    first = await office.all.page("pending", None, 2)
    rest = await office.all.page("pending", first[-1].id, 10)
    assert [one.id for one in (*first, *rest)] == [one.id for one in asked]
    await office.all.decide(asked[0].id, NO, BOSS)
    assert len(await office.all.page("pending", None, 10)) == 4
    assert len(await office.all.page(None, None, 10)) == 5


async def test_what_a_key_may_leave_pending_is_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.tool_approvals.MAX_PENDING", 2)
    await office.ask(deed(), deed())
    with pytest.raises(LimitError):
        await office.ask(deed(), run="run_2")
    assert await office.all.of_run("run_2") == []


async def test_so_are_the_bytes_of_its_arguments(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.tool_approvals.MAX_PENDING_BYTES", 5000)
    await office.ask(deed(arguments={"text": "x" * 3000}))
    with pytest.raises(LimitError, match="5000 bytes"):
        await office.ask(deed(arguments={"text": "x" * 3000}), run="run_2")
    assert await office.all.of_run("run_2") == []
    await office.ask(deed(), run="run_3")


async def test_arguments_are_nowhere_in_clear(
    office: Office, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        (asked,) = await office.ask(deed(arguments={"to": "canary-7"}))
        await office.all.decide(asked.id, YES, BOSS)
    assert "canary" not in caplog.text
    assert "canary" not in repr(asked)
    connection = sqlite3.connect(str(database.engine.url.database))
    assert "canary" not in "".join(connection.iterdump())
    connection.close()


async def test_fleeting_ones_that_were_decided_give_way_to_newer_ones(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(database, is_fleeting=True)
    (first,), (second,) = [await office.ask(deed(), run=run) for run in ("run_1", "run_2")]
    for one in (first, second):
        await office.all.decide(one.id, NO, BOSS)
    monkeypatch.setattr("registry.tool_approvals.MAX_DECIDED_BYTES", 80)  # one takes 50 or so
    (third,) = await office.ask(deed(), run="run_3")
    assert [one.id for one in await office.all.page(None, None, 10)] == [second.id, third.id]
    with pytest.raises(NotFound):
        await office.all.find(first.id)
    assert [one.id for one in await office.all.page(None, second.id, 10)] == [third.id]
    assert await office.all.page(None, "mcpr_gone", 10) == []
