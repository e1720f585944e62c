"""Limits and budgets of teams and users."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("teams", "users"):
        op.add_column(table, sa.Column("bounds", sa.String(), nullable=True))
