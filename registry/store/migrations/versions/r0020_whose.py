"""Whose a call was, beside its key."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("team_id", "user_id", "end_user"):
        op.add_column("usage", sa.Column(name, sa.String(), nullable=True))
