"""An index for the least certain, and the most certain, images of a label."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the index."""
    op.create_index("images_by_label_and_probability", "images", ["label", "probability", "id"])
