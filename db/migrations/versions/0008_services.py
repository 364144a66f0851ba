"""The table `services`; and which of them has claimed an image."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
PATH = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
CLAIMED = sa.text("claimed_by IS NOT NULL")


def upgrade() -> None:
    """Make them; what is unfinished now is nobody's."""
    op.create_table(
        "services",
        sa.Column("id", ID, primary_key=True),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process", sa.String, nullable=False),
        sa.Column("inbox", PATH, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("beat_at", TIME, nullable=False),
        sa.Column("lease_seconds", sa.Double, nullable=False),
    )
    # SQLite takes a reference with a new column, but no other way.
    kind = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(
        f"ALTER TABLE images ADD COLUMN claimed_by {kind} "
        "REFERENCES services (id) ON DELETE SET NULL"
    )
    op.create_index(
        "images_by_claimant",
        "images",
        ["claimed_by"],
        sqlite_where=CLAIMED,
        postgresql_where=CLAIMED,
    )
