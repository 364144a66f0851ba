"""What was decided on images before they were decided again, and a view of all decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table; what holds stays where it is, so that there is nothing to copy."""
    op.create_table(
        "earlier_decisions",
        sa.Column("id", BigId, primary_key=True),
        sa.Column(
            "image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("model_id", sa.Integer, sa.ForeignKey("models.id")),
        sa.Column("label", sa.String(16), nullable=False),
        sa.Column("probability", sa.Double),
        sa.Column("p_sad", sa.Double),
        sa.Column("decided_by", sa.String(16)),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.Column("faces", sa.JSON, nullable=False),
    )
    op.create_index("earlier_decisions_by_image", "earlier_decisions", ["image_id"])
    op.execute(
        """
        CREATE VIEW decisions AS
        SELECT id AS image_id, model_id, label, probability, p_sad, decided_by, decided_at
        FROM images WHERE label IS NOT NULL
        UNION ALL
        SELECT image_id, model_id, label, probability, p_sad, decided_by, decided_at
        FROM earlier_decisions
        """
    )
