"""A number for each task, by which its events point to it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TASK = ("owner", "team", "context_id", "state", "reader", "instance", "created_at", "updated_at")


def upgrade() -> None:
    op.rename_table("tasks", "named_tasks")
    op.rename_table("task_events", "named_events")
    op.drop_index("ix_tasks_owner")
    op.drop_index("ix_tasks_team")
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=True),
        sa.Column("context_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reader", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("agent", "task_id"),
    )
    op.create_index("ix_tasks_owner", "tasks", ["owner"])
    op.create_index("ix_tasks_team", "tasks", ["team"], sqlite_where=sa.text("team IS NOT NULL"))
    op.create_table(
        "task_events",
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("form", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task", "seq"),
    )
    columns = ", ".join(("agent", "task_id", *TASK))
    op.execute(f"INSERT INTO tasks ({columns}) SELECT {columns} FROM named_tasks ORDER BY created_at")  # noqa: S608 - constants
    op.execute(
        "INSERT INTO task_events (task, seq, form, data) SELECT tasks.id, seq, form, data"
        " FROM named_events JOIN tasks USING (agent, task_id)"
    )
    op.drop_table("named_events")
    op.drop_table("named_tasks")
