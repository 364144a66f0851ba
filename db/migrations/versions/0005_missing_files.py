"""Since when a filed file is not where it was filed, also in the view `results`."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

MISSING = sa.text("missing_since IS NOT NULL")


def upgrade() -> None:
    """Make the column, and add to the view at its end."""
    op.add_column("images", sa.Column("missing_since", sa.DateTime(timezone=True)))
    op.create_index(
        "images_that_are_missing",
        "images",
        ["size_bytes", "id"],
        sqlite_where=MISSING,
        postgresql_where=MISSING,
    )
    op.execute("DROP VIEW results")
    op.execute(
        """
        CREATE VIEW results AS
        SELECT images.id, source_path, destination_path, state, label, probability, p_sad,
               models.name AS model, width, height, format, size_bytes, images.sha256,
               claimed_at, decided_at, filed_at, error_code, error_detail, corrected_label,
               decided_by, corrected_at, missing_since
        FROM images LEFT JOIN models ON models.id = images.model_id
        """
    )
