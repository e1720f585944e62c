"""Teams, whose each key is, and which tasks and contexts are shared in one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "teams",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("alias"),
    )
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.add_column(sa.Column("team_id", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_api_keys_team_id"), ["team_id"], unique=False)
    with op.batch_alter_table("contexts") as batch_op:
        batch_op.add_column(sa.Column("team", sa.String(), nullable=True))
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.add_column(sa.Column("team", sa.String(), nullable=True))
        batch_op.create_index("ix_tasks_team", ["team"], unique=False, sqlite_where=sa.text("team IS NOT NULL"))
