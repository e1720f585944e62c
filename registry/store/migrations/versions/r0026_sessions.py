"""People who are signed in with a browser."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(), primary_key=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("user_id", "account", "issuer", "said")),
        *(sa.Column(name, sa.Float(), nullable=False) for name in ("created_at", "seen_at", "expires_at")),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
