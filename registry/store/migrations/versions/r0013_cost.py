"""What calls cost, and the kinds of tokens that are priced."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TOKENS = ("cached", "cache_written", "reasoning", "audio_input", "audio_output")


def upgrade() -> None:
    with op.batch_alter_table("usage") as batch_op:
        for kind in TOKENS:
            batch_op.add_column(sa.Column(f"{kind}_tokens", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("cost_usd", sa.Float(), nullable=True))
