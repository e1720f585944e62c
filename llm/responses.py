"""Answers requests of OpenAI's Responses API, and keeps what came of them for their owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Literal

import msgspec
from msgspec import structs

from llm.assents import DOOR, Assents, Gone
from llm.assents import KIND as APPROVAL
from llm.background import Log, Run, Runs
from llm.conversations import Conversations
from llm.fleeting import Fleeting
from llm.parking import Parking
from llm.ports import Sink
from llm.response_passing import Passing
from llm.response_work import Work
from llm.rounds import Caller
from llm.run import Loop
from llm.types import Ask, Ticket
from llm.voices.outlets import Keeping, Logged, Streamed, Whole
from llm.voices.responses import Outlet, ResponsesVoice
from llm.wire import responses
from llm.wire.response_events import Composer, event
from llm.wire.response_items import MAX_ITEMS, REFERENCE, Page, going_on, identified, response_of
from llm.wire.response_tools import Labels
from llm.wire.responses import ResponsesRequest
from registry.errors import HubError, InvalidRequest, NotFound
from registry.identity import Principal
from registry.judged import JsonObject, decode, encode
from registry.sealed.kept import Kept
from registry.sealed.secrets import new_id

KIND = "response"
EVENTS = "response_events"
"""Of a response that was streamed in the background."""

MAX_CHAIN = 1000
"""Responses that one may continue, each the one before."""

AT_ONCE = 32
"""Runs that go on by themselves at the same time; more wait."""

UNFINISHED = ("queued", "in_progress")

LOST = {
    "code": "server_error",
    "message": "The hub stopped to work on this response before it was complete; ask again.",
}

Living = Callable[[Collection[str]], Awaitable[Mapping[str, Principal]]]
"""Those of some principals, by id, whose keys are valid."""

logger = logging.getLogger(__name__)


class Responses:
    """All responses. One for a process; `run` must be running."""

    def __init__(self, loop: Loop, *, kept: Kept, parking: Parking, living: Living, public_url: str) -> None:
        self.conversations = Conversations(kept)
        self._assents = Assents(parking)
        self._loop = loop
        self._kept = kept
        self._fleeting = Fleeting()
        """Responses that went on by themselves and may leave nothing at rest."""
        self._parking = parking
        self._living = living
        self._runs = Runs()
        self._public_url = public_url
        self._due: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._busy = asyncio.Semaphore(AT_ONCE)
        parking.approvals.subscribe(DOOR, lambda run, principal: self._due.put_nowait((run, principal)))

    async def answer(self, body: bytes, caller: Caller, sink: Sink) -> None:
        """Answer one request into `sink`.

        Raises:
            HubError: before the answer began; later ones end the response as failed.
        """
        request = responses.read_request(body, public_url=self._public_url)
        try:
            await self._answer(request, body, caller, sink)
        except Gone as gone:
            if not await self._played(gone.run, request, caller.principal, sink):
                raise

    async def _answer(self, request: ResponsesRequest, body: bytes, caller: Caller, sink: Sink) -> None:
        caller = self._loop.bounded(caller, request.bounds)
        is_back = any(item["type"] == APPROVAL for item in request.items)  # perhaps to what goes on by itself meanwhile
        async with AsyncExitStack() as turn:
            conversation = self.conversations.turn(request.conversation, caller.principal, is_patient=is_back)
            said = await turn.enter_async_context(conversation)
            work = await self._work(request, body, said, caller, turn=turn)
            caller = _in_session(request, work.first, caller)
            if not request.background:
                outlet = self._keeping(work, caller, Streamed(sink) if request.stream else Whole(sink))
                if work.ask is None:
                    await Passing(work, outlet).run(self._loop, caller)
                else:
                    await self._run(work, work.ask, caller, composer=work.composer(), outlet=outlet)
                return
            self._runs.check_room(caller.principal.id)
            run = await self._start(work, caller, turn)
            queued = encode(run.composer.response())
        if request.stream:
            await _follow(run.log, 0, sink)
        else:
            await sink.reply(200, queued)

    async def _start(self, work: Work, caller: Caller, turn: AsyncExitStack) -> Run:
        """Have it answered in the background."""
        run = Run(work.id, caller.principal.id, work.composer())
        with self._runs.expecting(run):
            run.log.add(run.composer.queue())
            await self._store(work).put(KIND, work.id, caller.principal, _record(work, run.composer.response()))
        self._runs.start(run, self._run_on(work, caller, run, turn.pop_all()))
        return run

    def _store(self, work: Work) -> Kept | Fleeting:
        return self._kept if work.request.store else self._fleeting

    async def _played(self, run: str, request: ResponsesRequest, principal: Principal, sink: Sink) -> bool:
        """Give who comes back to a run that went on by itself what it comes, or came, to; False: it did not."""
        name = going_on(run)
        if not (self._runs.find(name) or await self._kept_of(KIND, name, principal)):
            return False
        if request.stream:
            await self.follow(name, -1, principal, sink)
            return True
        if (made := self._runs.find(name)) is not None:
            async for _ in made.log.read(0):
                pass
        await sink.reply(200, encode(await self.retrieve(name, principal)))
        return True

    async def _go_on(self, run: str, principal_id: str) -> None:
        """A boundary: a run whose last answer came from the inbox goes on by itself, and one that cannot must not end the others."""
        async with self._busy:
            try:
                made = await self._taken_up(run, principal_id)
            except Gone:  # its caller was faster
                return
            except HubError as error:  # its caller is told the same when it comes back
                logger.warning("a run is not gone on with", extra={"run": run, "reason": error.text})
                return
            if made is not None and made.task is not None:
                await asyncio.wait([made.task])

    async def _taken_up(self, name: str, principal_id: str) -> Run | None:
        """The background run that goes on with a waiting one; None: its caller was faster, has no valid key, or it has expired."""
        principal = (await self._living([principal_id])).get(principal_id)
        parked = await self._parking.look(name, principal) if principal is not None else None
        if principal is None or parked is None:
            return None
        about = decode(parked.about)
        items = await self._assents.given(name)
        body = encode({**about["request"], "input": items, "stream": True, **_place(about)})
        request = replace(responses.read_request(body, public_url=self._public_url), background=True)
        # its pace was counted when the request came
        caller = Caller(structs.replace(principal, paces=()), new_id("req"))
        caller = _in_session(request, about.get("first"), caller)
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(self.conversations.turn(request.conversation, principal, is_patient=True))
            model, response = self._loop.find(request.model), going_on(name)
            items = identified(items, _token(response))
            work = Work(
                request=request,
                body=body,
                id=response,
                before=[],
                items=items,
                first=about.get("first"),
                model=model,
                ask=None,
            )
            work = await self._to_loop(work, caller, turn)
            listed = frozenset(Labels(work.listings).offers)  # by the response that asked for approval
            return await self._start(replace(work, listed=listed), caller, turn)

    async def _work(
        self,
        request: ResponsesRequest,
        body: bytes,
        said: Sequence[JsonObject],
        caller: Caller,
        *,
        turn: AsyncExitStack,
    ) -> Work:
        """Read what there is to do; `turn` is left when it is done."""
        principal = caller.principal
        model = self._loop.find(request.model)
        if not principal.grants.allow(model.kind, model.grant_name):
            raise NotFound("model", request.model)
        continued, first = await self._continued(request.previous, principal)
        before, name = [*said, *continued], new_id("resp")
        found = [await self._dereferenced(item, before, principal) for item in request.items]
        items = identified(found, _token(name), {item["id"] for item in before})
        if len(before) + len(items) > MAX_ITEMS:
            raise InvalidRequest(f"a request may have {MAX_ITEMS} items with those that it continues", member="input")
        first = first or (name if request.store else None)
        work = Work(request=request, body=body, id=name, before=before, items=items, first=first, model=model, ask=None)
        is_answer = any(item["type"] == APPROVAL for item in items)
        is_the_loops = request.sources or request.background or request.talk or is_answer
        if not is_the_loops and self._loop.speaks(model, "responses"):
            return work
        return await self._to_loop(work, caller, turn)

    async def _to_loop(self, work: Work, caller: Caller, turn: AsyncExitStack) -> Work:
        """What the loop needs of it, with the run that it goes on with."""
        request, principal = work.request, caller.principal
        everything = [*work.before, *work.items]
        parked = await self._assents.look(work.items, principal, is_continued=bool(work.before))
        asked = everything if parked is None else decode(parked.about)["items"]
        offering = self._loop.listings(request.sources, work.model, caller, unsaid_approval=True)
        listings = await turn.enter_async_context(offering)
        ask = responses.ask_of(request, asked, Labels(listings))
        if request.background:
            self._loop.check(ask, work.model)
        if parked is not None:
            parked = await self._assents.take(parked, principal)
        about = {
            "items": asked,
            "request": msgspec.Raw(work.body),
            "response": work.id if request.store else None,
            "first": work.first,
        }
        ticket = Ticket(DOOR, lambda: encode(about), is_fleeting=not request.store)
        listed = {item["server_label"] for item in everything if item["type"] == "mcp_list_tools"}
        ask = replace(ask, ticket=ticket, parked=parked)
        return replace(work, ask=ask, listings=listings, listed=frozenset(listed))

    async def _continued(self, name: str | None, principal: Principal) -> tuple[list[JsonObject], str | None]:
        """The items that came before, oldest first, and the first response that they are of; raises `NotFound` when one is gone."""
        found: list[list[JsonObject]] = []
        first = name
        while name is not None:
            record = await self._find(name, principal)
            response = record["response"]
            if not response["store"]:
                raise NotFound(KIND, name)
            if response["status"] in UNFINISHED or len(found) >= MAX_CHAIN:
                why = "is not complete yet" if len(found) < MAX_CHAIN else f"continues more than {MAX_CHAIN}"
                raise InvalidRequest(f"response {name!r} {why}", member="previous_response_id")
            found.append([*record["input"], *response["output"]])
            first, name = name, response["previous_response_id"]
        return [item for items in reversed(found) for item in items], first

    async def _dereferenced(self, item: JsonObject, before: Sequence[JsonObject], principal: Principal) -> JsonObject:
        if item["type"] != REFERENCE:
            return item
        known = next((one for one in before if one["id"] == item["id"]), None)
        if known is not None:
            raise InvalidRequest(f"item {item['id'][:80]!r} is there already, with what is continued", member="input")
        name = response_of(item["id"])
        if name is not None:
            record = await self._find(name, principal)
            for one in (*record["input"], *record["response"]["output"]):
                if one["id"] == item["id"]:
                    return dict(one)
        raise NotFound("item", item["id"])

    async def _run(self, work: Work, ask: Ask, caller: Caller, *, composer: Composer, outlet: Outlet) -> None:
        """Answer, and keep the answer; an error is raised where the caller can still be told it as one."""
        request = work.request
        parked = ask.parked
        approved = {one.call.id: one.approval for one in parked.held.waiting} if parked is not None else {}
        peculiar = responses.peculiar(request, [*work.before, *work.items])
        voice = ResponsesVoice(composer, outlet, listed=work.listed, approved=approved, peculiar=peculiar)
        try:
            await self._loop.run(ask, work.model, caller, voice, work.listings)
        except HubError as error:
            if not request.background and not (request.stream and voice.has_begun):
                raise
            await voice.fail(error, request_id=caller.request_id)

    async def _run_on(self, work: Work, caller: Caller, run: Run, turn: AsyncExitStack) -> None:
        """Answer in the background. What ends otherwise than it should is said to be lost when its owner asks."""
        logged = Logged(run.log)
        assert work.ask is not None, "only what the client waits for is passed through"
        async with turn:
            try:
                outlet = self._keeping(work, caller, logged, run.log)
                with self._loop.models.telling(caller.principal, caller.request_id):
                    await self._run(work, work.ask, caller, composer=run.composer, outlet=outlet)
            finally:
                if not run.log.has_ended:
                    status: Literal["cancelled", "failed"] = "cancelled" if run.is_cancelled else "failed"
                    events = [run.composer.stop(status, error=None if run.is_cancelled else LOST)]
                    ending = self._keeping(work, caller, logged, run.log) if run.is_cancelled else logged
                    await ending.end(run.composer.response(), events)

    def _keeping(self, work: Work, caller: Caller, outlet: Outlet, log: Log | None = None) -> Outlet:
        """An outlet whose responses are kept before they end there: who hears of the end can ask for it."""

        async def keep(response: JsonObject, events: Sequence[bytes]) -> None:
            await self._keep(work, caller.principal, response, [*(log.events if log is not None else ()), *events])

        return Keeping(outlet, keep)

    async def _keep(self, work: Work, principal: Principal, response: JsonObject, events: Sequence[bytes]) -> None:
        request = work.request
        if request.conversation is not None and response["status"] in ("completed", "incomplete"):
            await self.conversations.add(request.conversation, [*work.items, *response["output"]], principal)
        record, store = _record(work, response), self._store(work)
        if request.background:
            if await store.replace(KIND, work.id, principal, record) and request.stream:
                await store.put(EVENTS, work.id, principal, encode([text.decode() for text in events]))
        elif request.store:
            await store.put(KIND, work.id, principal, record)

    async def retrieve(self, name: str, principal: Principal) -> JsonObject:
        """The response as it is now; raises `NotFound`."""
        found: JsonObject = (await self._find(name, principal))["response"]
        return found

    async def follow(self, name: str, after: int, principal: Principal, sink: Sink) -> None:
        """Stream the events of a background response after number `after`, those that are yet to come too.

        Raises:
            NotFound: there is no such response.
            InvalidRequest: it is not one that is streamed.
        """
        record = await self._find(name, principal)
        run = self._runs.find(name)
        if not record["stream"] or not record["response"]["background"]:
            raise InvalidRequest(
                "only a response made with background and stream can be streamed again", member="stream"
            )
        if run is not None:
            await _follow(run.log, after + 1, sink)
            return
        kept = await self._kept_of(EVENTS, name, principal)
        events = [] if kept is None else [text.encode() for text in decode(kept)]
        if not events:  # lost with the process that worked on it
            events = [event({"type": "response.failed", "sequence_number": after + 1, "response": record["response"]})]
            after = -1
        await sink.start(200)
        await sink.write(b"".join(events[after + 1 :]))

    async def cancel(self, name: str, principal: Principal) -> JsonObject:
        """End a background response; raises `NotFound`, or `InvalidRequest` for another."""
        response = await self.retrieve(name, principal)
        if not response["background"]:
            raise InvalidRequest("only a response that was made with background can be cancelled")
        run = self._runs.find(name)
        if run is None:
            return response
        await self._runs.cancel(run)
        return await self.retrieve(name, principal)

    async def delete(self, name: str, principal: Principal) -> JsonObject:
        """Forget a response, and end it if it is worked on; raises `NotFound`."""
        if not (await self._fleeting.take(KIND, name, principal) or await self._kept.delete(KIND, name, principal)):
            raise NotFound(KIND, name)
        run = self._runs.find(name)
        if run is not None:
            await self._runs.cancel(run)
        await self._kept.delete(EVENTS, name, principal)
        return {"id": name, "object": "response", "deleted": True}

    async def input_items(self, name: str, page: Page, principal: Principal) -> JsonObject:
        """A page of what a response was asked with; raises `NotFound`."""
        return page.cut((await self._find(name, principal))["input"])

    async def _find(self, name: str, principal: Principal) -> Any:
        """The record of a response that is open to `principal`, as it is now."""
        value = await self._kept_of(KIND, name, principal)
        if value is None:
            raise NotFound(KIND, name)
        record = decode(value)
        if record["response"]["status"] in UNFINISHED:
            run = self._runs.find(name)
            if run is not None:
                record["response"] = decode(encode(run.composer.response()))
            else:
                record["response"] |= {"status": "failed", "error": LOST}
        return record

    async def _kept_of(self, kind: str, name: str, principal: Principal) -> bytes | None:
        return await self._fleeting.get(kind, name, principal) or await self._kept.get(kind, name, principal)

    async def run(self) -> None:
        """Go on with runs that were answered in the inbox; end what is worked on in the background when this is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._go_on(*await self._due.get()))
        finally:
            await self._runs.aclose()


def _in_session(request: ResponsesRequest, first: str | None, caller: Caller) -> Caller:
    """The caller in the conversation that a response is part of, or in that of all that go on from the same first one."""
    return caller._replace(principal=caller.principal.in_session("responses", request.conversation or first))


def _place(about: JsonObject) -> JsonObject:
    """What a response that goes on continues."""
    if about["request"].get("conversation") is not None:
        return {}
    return {"previous_response_id": about["response"]}


def _token(name: str) -> str:
    return name.partition("_")[2]


def _record(work: Work, response: JsonObject) -> bytes:
    return encode({"response": response, "input": work.items, "stream": work.request.stream})


async def _follow(log: Log, begin: int, sink: Sink) -> None:
    await sink.start(200)
    async for events in log.read(begin):
        await sink.write(events)
