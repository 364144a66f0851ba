"""Indexes that answer what people ask in the order in which it is shown: by time, by certainty."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

FAILED = sa.text("error_code IS NOT NULL")
CORRECTED = sa.text("corrected_label IS NOT NULL")
TIME = ("claimed_at", "id")


def upgrade() -> None:
    """Put the time behind what is asked for, so that nothing is sorted and little is looked at."""
    op.drop_index("images_by_claimed_at", "images")
    op.drop_index("images_by_label", "images")
    op.create_index("images_by_claimed_at", "images", [*TIME])
    op.create_index("images_by_label", "images", ["label", *TIME])
    op.create_index("images_by_state_and_time", "images", ["state", *TIME])
    op.create_index("images_by_probability", "images", ["probability", "id"])
    for name, columns, where in (
        ("images_by_error", ["error_code", *TIME], FAILED),
        ("images_by_correction", [*TIME], CORRECTED),
    ):
        op.create_index(name, "images", columns, sqlite_where=where, postgresql_where=where)
