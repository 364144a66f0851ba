"""The tables `models` and `images`, and the view `results`."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

PATH = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
UNFINISHED = sa.text("state IN ('claimed', 'decided')")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "models",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("classes", sa.JSON, nullable=False),
        sa.Column("input_height", sa.Integer, nullable=False),
        sa.Column("input_width", sa.Integer, nullable=False),
        sa.Column("input_channels", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("first_used_at", TIME, nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("source_path", PATH, nullable=False),
        sa.Column("source_path_raw", sa.LargeBinary),
        sa.Column("source_mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("format", sa.String(16)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("label", sa.String(16)),
        sa.Column("probability", sa.Double),
        sa.Column("p_sad", sa.Double),
        sa.Column("model_id", sa.Integer, sa.ForeignKey("models.id")),
        sa.Column("destination_path", PATH),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.Column("decided_at", TIME),
        sa.Column("filed_at", TIME),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error_detail", sa.String),
        sa.Column("corrected_label", sa.String(16)),
        sa.Column("corrected_at", TIME),
    )
    op.create_index(
        "one_claim_per_file",
        "images",
        ["source_path"],
        unique=True,
        sqlite_where=UNFINISHED,
        postgresql_where=UNFINISHED,
    )
    op.create_index("images_by_destination", "images", ["destination_path"], unique=True)
    op.create_index("images_by_claimed_at", "images", ["claimed_at"])
    op.create_index("images_by_label", "images", ["label", "id"])
    op.create_index("images_by_state", "images", ["state", "id"])
    op.create_index("images_by_sha256", "images", ["sha256"])
    op.execute(
        """
        CREATE VIEW results AS
        SELECT images.id, source_path, destination_path, state, label, probability, p_sad,
               models.name AS model, width, height, format, size_bytes, images.sha256,
               claimed_at, decided_at, filed_at, error_code, error_detail, corrected_label
        FROM images LEFT JOIN models ON models.id = images.model_id
        """
    )
