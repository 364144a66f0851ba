"""Where a file comes from that a correction moves; and when it was said, in the view `results`."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

PATH = sa.String().with_variant(sa.String(collation="C"), "postgresql")
MOVING = sa.text("moved_from IS NOT NULL")


def upgrade() -> None:
    """Make the column, and add to the view at its end."""
    op.add_column("images", sa.Column("moved_from", PATH))
    op.create_index(
        "images_by_moved_from",
        "images",
        ["moved_from"],
        sqlite_where=MOVING,
        postgresql_where=MOVING,
    )
    op.execute("DROP VIEW results")
    op.execute(
        """
        CREATE VIEW results AS
        SELECT images.id, source_path, destination_path, state, label, probability, p_sad,
               models.name AS model, width, height, format, size_bytes, images.sha256,
               claimed_at, decided_at, filed_at, error_code, error_detail, corrected_label,
               decided_by, corrected_at
        FROM images LEFT JOIN models ON models.id = images.model_id
        """
    )
