"""Which keys are of one hand: made by one another, or of one user."""

from __future__ import annotations

from sqlmodel import Session

from registry.identity import ADMIN_ID
from registry.store.tables.callers import ApiKey


def are_kin(session: Session, one: str, other: str) -> bool:
    """Whether two principals are one, are keys of one user, or one's key was made by the other, perhaps through further keys.

    The operator's admin key is nobody's kin: whom it makes keys for is the operator's business.
    """
    users = [key.user_id for name in (one, other) if (key := session.get(ApiKey, name)) is not None]
    is_one_user = len(users) == 2 and users[0] is not None and users[0] == users[1]
    return is_one_user or other in line(session, one) or one in line(session, other)


def line(session: Session, name: str) -> list[str]:
    """A principal, who made its key, who made that one's, and so on."""
    found = [name]
    while (key := session.get(ApiKey, found[-1])) is not None and key.created_by not in (None, ADMIN_ID, *found):
        found.append(str(key.created_by))
    return found
