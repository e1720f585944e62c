"""Prompts, resources, templates and introductions of servers beside their tools."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "listed",
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("exposed", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("description", sa.LargeBinary(), nullable=False),
        sa.Column("quarantined", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("server", "kind", "name"),
    )
    op.execute(
        "INSERT INTO listed (server, kind, name, exposed, position, description, quarantined)"
        " SELECT server, 'tool', name, exposed, position, description, quarantined FROM listed_tools"
    )
    op.drop_table("listed_tools")
