"""Deleted jobs that have left artefacts, each by itself, so that its bytes can be given back."""

import sqlalchemy as sa
from alembic import op

revision = "r0007"
down_revision = "r0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forgotten_jobs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False, index=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.execute(
        "UPDATE tenants SET forgotten_bytes = forgotten_bytes + "
        "(SELECT coalesce(sum(stored_bytes), 0) FROM forgotten_jobs WHERE tenant = tenants.name)"
    )
    op.drop_table("forgotten_jobs")
