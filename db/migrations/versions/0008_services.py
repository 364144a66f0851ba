"""The table `services`; and which of them has claimed an image."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
PATH = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


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
    op.add_column("images", sa.Column("claimed_by", ID))
