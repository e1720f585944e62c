"""Model names, wildcards and what a key sees of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm import router
from llm.providers.table import KEY_VARIABLES, TABLE, formats_of
from registry.access import Grants
from registry.entries import Model
from registry.errors import NotFound
from registry.identity import Principal


def models(*names: tuple[str, str]) -> dict[str, Model]:
    return {name: Model(name=name, provider="p", model=model) for name, model in names}


def test_exact_name_wins_over_wildcards_and_the_longest_of_them_over_others() -> None:
    known = models(("*", "any-*"), ("a/*", "*"), ("a/b/*", "deep/*"), ("a/b/c", "exact"))
    assert router.find(known, "a/b/c").model == "exact"
    assert (router.find(known, "a/b/d").name, router.find(known, "a/b/d").model) == ("a/b/d", "deep/d")
    assert router.find(known, "a/x").model == "x"
    assert router.find(known, "z").model == "any-z"


@pytest.mark.parametrize("name", ["a/*", "*", "a/", "b/c", "A/c"])
def test_name_that_no_model_answers_to_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        router.find(models(("a/*", "*")), name)


@pytest.mark.parametrize(
    ("grants", "listed"),
    [
        (["model:*"], ["m", "a/*"]),
        (["model:a/*"], ["a/*"]),
        (["model:a/x", "model:a/y-*", "model:b/z"], ["a/x", "a/y-*"]),
        (["tool:*"], []),
    ],
)
def test_listing_shows_what_the_key_may_use(grants: list[str], listed: list[str]) -> None:
    known = models(("m", "m"), ("a/*", "*"))
    known["off"] = Model(name="off", provider="p", model="x", unavailable="not in this version")
    assert list(router.listing(known, Principal(id="k", name="k", grants=Grants.parse(grants)))) == listed


def test_rows_name_https_addresses_or_this_machine() -> None:
    for row in TABLE.values():
        assert row.base_url is None or row.base_url.startswith(("https://", "http://127.0.0.1:"))
    assert "OPENAI_API_KEY" in KEY_VARIABLES


def test_an_address_of_the_operators_own_speaks_only_what_it_is_known_for() -> None:
    """DeepSeek has Anthropic's format below another address than OpenAI's: behind a proxy nobody knows where."""
    model = Model(name="m", provider="deepseek", model="x")
    assert formats_of(model) == ("chat", "messages")
    assert formats_of(replace(model, base_url="https://proxy.example/v1")) == ("chat",)
