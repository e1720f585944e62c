"""What the gate tells the audit log. Pure."""

from __future__ import annotations

from typing import Protocol

from registry.errors import HubError
from registry.identity import Principal


class Refused(Protocol):
    """`registry.auditing.audit.Audit.refused`."""

    def __call__(self, who: Principal | None, error: HubError, /, *, request_id: str = "", where: str = "") -> None:
        """Note a refusal."""


def forget_refusal(_who: Principal | None, _error: HubError, *, request_id: str = "", where: str = "") -> None:
    """Note nothing."""


class Redacted(Protocol):
    """`registry.auditing.audit.Audit.redacted`."""

    def __call__(self, who: Principal, guard: str, what: str, /, *, request_id: str, where: str) -> None:
        """Note a redaction."""


def forget_redaction(_who: Principal, _guard: str, _what: str, *, request_id: str, where: str) -> None:
    """Note nothing."""
