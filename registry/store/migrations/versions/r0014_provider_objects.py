"""What providers keep for callers: files, batches, vector stores."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "provider_objects",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("shown", sa.String(), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("metered", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("kind", "place", "name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_provider_objects_owner", "provider_objects", ["owner", "kind"])
    op.create_index(
        "ix_provider_objects_team", "provider_objects", ["team", "kind"], sqlite_where=sa.text("team IS NOT NULL")
    )
    op.create_index("ix_provider_objects_expires_at", "provider_objects", ["expires_at"])
