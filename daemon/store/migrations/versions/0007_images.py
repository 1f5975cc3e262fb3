"""Images, who owns and rates them, and the money that they cost."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TEXT = sa.Text()
NUMBER = sa.BigInteger()  # of bytes, of cents, of thousandths of a star, or of milliseconds


def upgrade() -> None:
    """Make the tables; nobody has any money yet."""
    nothing = sa.Column("balance_cents", NUMBER, nullable=False, server_default="0")
    op.add_column("users", nothing)
    _images()
    op.create_table("icons", _part_of("images"), sa.Column("png", sa.LargeBinary(), nullable=False))
    op.create_table(
        "owned_images",
        _part_of("users"),
        _part_of("images"),
        sa.Column("paid_cents", NUMBER, nullable=False),
        sa.Column("created_at", NUMBER, nullable=False),
    )
    op.create_table(
        "ratings",
        _part_of("users"),
        _part_of("images"),
        sa.Column("rating", sa.Integer(), nullable=False),
    )


def _images() -> None:
    words = ("alias", "image_name", "architecture", "os", "release", "variant", "serial")
    gone_with = sa.ForeignKey("servers.id", ondelete="CASCADE")
    op.create_table(
        "images",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("server_id", TEXT, gone_with, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in (*words, "description")),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("size_bytes", NUMBER, nullable=False),
        sa.Column("price_cents", NUMBER, nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("prespawn", sa.Boolean(), nullable=False),
        sa.Column("guid", TEXT, nullable=True),
        sa.Column("rating_sum", NUMBER, nullable=False),
        sa.Column("rating_count", NUMBER, nullable=False),
        sa.Column("created_at", NUMBER, nullable=False),
    )
    op.create_index("uq_images_alias", "images", ["alias"], unique=True)


def _part_of(table: str) -> sa.Column[str]:
    kept = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    return sa.Column(f"{table[:-1]}_id", TEXT, kept, primary_key=True)
