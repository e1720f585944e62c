"""What a call was part of: a conversation and a task."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("session", "task"):
        op.add_column("usage", sa.Column(name, sa.String(), nullable=True))
