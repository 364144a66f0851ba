"""The table `faces`; and what of an image decided, also in the view `results`."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table and the column; what was decided before, the whole image decided."""
    op.create_table(
        "faces",
        sa.Column("id", ID, primary_key=True),
        sa.Column("image_id", ID, sa.ForeignKey("images.id", ondelete="CASCADE"), nullable=False),
        sa.Column("x", sa.Integer, nullable=False),
        sa.Column("y", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("p_sad", sa.Double, nullable=False),
    )
    op.create_index("faces_by_image", "faces", ["image_id"])
    op.add_column("images", sa.Column("decided_by", sa.String(16)))
    op.execute("UPDATE images SET decided_by = 'whole_image' WHERE label IS NOT NULL")
    op.execute("DROP VIEW results")
    op.execute(
        """
        CREATE VIEW results AS
        SELECT images.id, source_path, destination_path, state, label, probability, p_sad,
               models.name AS model, width, height, format, size_bytes, images.sha256,
               claimed_at, decided_at, filed_at, error_code, error_detail, corrected_label,
               decided_by
        FROM images LEFT JOIN models ON models.id = images.model_id
        """
    )
