"""What of MCP servers was approved."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("listed", sa.Column("drift", sa.String(), nullable=True))
    op.add_column("listed", sa.Column("findings", sa.String(), nullable=False, server_default="[]"))
    op.create_table(
        "approved_features",
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("server", "kind", "name")),
        sa.Column("description", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("approved_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "seen_servers",
        sa.Column("server", sa.String(), primary_key=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("source", "kinds")),
    )
