"""What servers list to accounts is compared with what was approved too: rows of a principal, `''` for everybody's."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

TABLES = {
    "listed": (
        "server VARCHAR NOT NULL, kind VARCHAR NOT NULL, name VARCHAR NOT NULL, exposed VARCHAR NOT NULL, position INTEGER NOT NULL, "
        "description BLOB NOT NULL, quarantined VARCHAR, drift VARCHAR, findings VARCHAR DEFAULT '[]' NOT NULL",
        "server, kind, name",
    ),
    "approved_features": (
        "server VARCHAR NOT NULL, kind VARCHAR NOT NULL, name VARCHAR NOT NULL, description BLOB NOT NULL, digest VARCHAR NOT NULL, "
        "approved_by VARCHAR NOT NULL, approved_at FLOAT NOT NULL",
        "server, kind, name",
    ),
    "seen_servers": ("server VARCHAR NOT NULL, source VARCHAR NOT NULL, kinds VARCHAR NOT NULL", "server"),
}


def upgrade() -> None:
    for name, (columns, key) in TABLES.items():
        names = ", ".join(column.split()[0] for column in columns.split(", "))
        op.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
        op.execute(f"CREATE TABLE {name} (principal VARCHAR NOT NULL, {columns}, PRIMARY KEY (principal, {key}))")
        op.execute(f"INSERT INTO {name} (principal, {names}) SELECT '', {names} FROM old_{name}")  # noqa: S608
        op.execute(f"DROP TABLE old_{name}")
