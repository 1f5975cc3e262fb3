"""Events name the user whose object they tell of: a user's stream reads only its own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column and its index; of events from before, admins alone are told."""
    op.add_column("events", sa.Column("user_id", sa.Text(), nullable=True))
    op.create_index("ix_events_user", "events", ["user_id", "id"])
