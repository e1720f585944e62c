"""Which instance of an agent has a task or a context."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("tasks", "contexts"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.add_column(sa.Column("instance", sa.String(), nullable=False, server_default=""))
