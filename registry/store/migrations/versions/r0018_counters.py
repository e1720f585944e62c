"""Limits and budgets, and what was used of them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("counter", sa.String(), nullable=False),
        sa.Column("ends", sa.Integer(), nullable=False),
        sa.Column("process", sa.String(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("warned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("counter", "ends", "process"),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.add_column(sa.Column("bounds", sa.String(), nullable=True))
