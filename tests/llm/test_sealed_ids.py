"""The hub's ids of what providers keep: one codec, no pattern, nothing that a client chooses (the invariants of docs/decisions)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.platform.sealed_ids import PREFIXES, Kind, Owned, SealedIds
from registry.access import Grants
from registry.errors import NotFound
from registry.identity import Principal
from registry.sealed.secrets import Sealer

IDS = SealedIds(Sealer([b"k" * 32]))
KINDS: tuple[Kind, ...] = tuple(PREFIXES)

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    ["", ";", ",", ":", "/", "..", "a;model,b", "file-", "vs_", '"', "\\", "\x00", "model_id,x;", "=", "%2F"]
)
owneds = st.builds(
    Owned,
    owner=texts,
    team=st.none() | texts.filter(bool),
    model=texts,
    place=texts,
    name=texts,
    purpose=texts,
)


def who(name: str, team: str | None = None) -> Principal:
    return Principal(id=name, name="n", grants=Grants(()), team_id=team)


@given(st.sampled_from(KINDS), owneds)
def test_what_was_sealed_is_what_is_opened_whatever_it_holds(kind: Kind, owned: Owned) -> None:
    made = IDS.made(kind, owned)
    assert made.startswith(PREFIXES[kind])
    assert made == IDS.made(kind, owned), "the same thing has the same id"
    assert IDS.opened(kind, made, who(owned.owner)) == owned
    if owned.team is not None:
        assert IDS.opened(kind, made, who("another", owned.team)) == owned


@given(owneds, owneds)
def test_two_things_never_share_an_id(one: Owned, other: Owned) -> None:
    assert (IDS.made("file", one) == IDS.made("file", other)) == (one == other)


@given(st.sampled_from(KINDS), owneds, st.integers(0, 1 << 30))
def test_a_flipped_bit_opens_nothing(kind: Kind, owned: Owned, where: int) -> None:
    made = IDS.made(kind, owned)
    start = len(PREFIXES[kind])
    raw = bytearray(base64.urlsafe_b64decode(made[start:] + "=="))
    raw[where // 8 % len(raw)] ^= 1 << where % 8
    forged = made[:start] + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(NotFound):
        IDS.opened(kind, forged, who(owned.owner))


@given(owneds, st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_an_id_of_one_kind_is_none_of_another(owned: Owned, one: Kind, other: Kind) -> None:
    made = IDS.made(one, owned)
    renamed = PREFIXES[other] + made.removeprefix(PREFIXES[one])
    for text in (made, renamed):
        if one != other:
            with pytest.raises(NotFound):
                IDS.opened(other, text, who(owned.owner))


@given(owneds, texts, st.none() | texts.filter(bool))
def test_an_id_opens_for_its_owner_and_its_team_only(owned: Owned, name: str, team: str | None) -> None:
    made = IDS.made("file", owned)
    if name == owned.owner or (team is not None and team == owned.team):
        assert IDS.opened("file", made, who(name, team)) == owned
    else:
        with pytest.raises(NotFound):
            IDS.opened("file", made, who(name, team))


@given(st.sampled_from(KINDS), st.text(max_size=300))
def test_what_a_client_makes_up_opens_nothing(kind: Kind, text: str) -> None:
    for made_up in (text, PREFIXES[kind] + text):
        with pytest.raises(NotFound) as refused:
            IDS.opened(kind, made_up, who("me"))
        assert refused.value.kind == kind


@given(owneds)
def test_an_id_has_one_spelling(owned: Owned) -> None:
    made = IDS.made("file", owned)
    for other in (made + "=", made + "A", made[:-1], made + "\n", " " + made, made.replace("-", "+", 2), made + "AAAA"):
        if other != made:
            with pytest.raises(NotFound):
                IDS.opened("file", other, who(owned.owner))


def test_ids_outlive_a_new_key_and_end_with_their_own() -> None:
    owned = Owned(owner="me", team=None, model="m", place="p", name="n")
    old, new = b"o" * 32, b"n" * 32
    made = SealedIds(Sealer([old])).made("file", owned)
    both = SealedIds(Sealer([new, old]))
    assert both.opened("file", made, who("me")) == owned
    assert both.made("file", owned) != made
    with pytest.raises(NotFound):
        SealedIds(Sealer([new])).opened("file", made, who("me"))
