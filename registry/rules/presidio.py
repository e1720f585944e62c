"""Guards of the type `presidio`: personal data as presidio-analyzer finds it. Only with the extra `presidio`, for who has such a guard.

Nothing is fetched: models of spaCy are installed by the operator or not used, and the list of domains is the one that came with
its package. It takes far longer than the hub's own checks, so it is not one of them: it looks in a thread, and not for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import spacy  # type: ignore[import-not-found]
import tldextract  # type: ignore[import-not-found]
from presidio_analyzer import AnalyzerEngine  # type: ignore[import-not-found]
from presidio_analyzer.nlp_engine import SpacyNlpEngine  # type: ignore[import-not-found]

from registry.rules.guards import Finding, GuardInvalid, rewritten

tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)  # else it asks the network for domains

KEPT = 8
"""Engines that are remembered: a changed file makes none anew."""


class Presidio:
    """Looks for what the recognizers of one language know; names and places need a model of spaCy."""

    def __init__(self, language: str, *, entities: Sequence[str], threshold: float, model: str | None) -> None:
        """Raises `GuardInvalid`."""
        self._engine = _engine(language, model)
        self._language = language
        self._entities = list(entities) or None
        self._threshold = threshold
        if unknown := sorted({*entities} - {*self._engine.get_supported_entities(language)}):
            raise GuardInvalid(f"presidio knows no entity {unknown[0]!r} in {language}")

    def check(self, value: Any, mark: str) -> Finding | None:
        """As `registry.rules.guards.Check.check`."""
        found: set[str] = set()

        def rewrite(text: str, _member: str | None) -> str:
            spans = self._engine.analyze(
                text, language=self._language, entities=self._entities, score_threshold=self._threshold
            )
            found.update(one.entity_type for one in spans)
            return _cut(text, sorted((one.start, one.end) for one in spans), mark)

        redacted = rewritten(value, rewrite)
        return Finding(", ".join(sorted(found)), redacted) if found else None


def _cut(text: str, spans: list[tuple[int, int]], mark: str) -> str:
    parts: list[str] = []
    at = 0
    for start, end in spans:
        if start >= at:
            parts += text[at:start], mark
        at = max(at, end)
    return "".join([*parts, text[at:]])


@lru_cache(KEPT)
def _engine(language: str, model: str | None) -> Any:
    try:
        if model is not None and not spacy.util.is_package(model):
            raise GuardInvalid(f"spaCy's model {model!r} is not installed")
        words = spacy.load(model) if model is not None else spacy.blank(language)
        speech = SpacyNlpEngine(models=[{"lang_code": language, "model_name": model or "blank"}])
        speech.nlp = {language: words}
        return AnalyzerEngine(nlp_engine=speech, supported_languages=[language])
    except (ImportError, OSError, ValueError) as error:
        raise GuardInvalid(f"presidio cannot look at {language!r}: {str(error)[:200]}") from None
