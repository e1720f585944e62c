"""Users and principals that come with tokens of issuers."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("issuer", sa.String(), nullable=True))
    op.add_column("users", sa.Column("subject", sa.String(), nullable=True))
    op.create_index("ix_users_subject", "users", ["issuer", "subject"], unique=True)
    op.add_column("api_keys", sa.Column("signed_in", sa.String(), nullable=True))
