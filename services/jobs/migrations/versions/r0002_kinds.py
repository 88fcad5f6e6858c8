"""Jobs of several kinds: selections from a finished compression, and plans."""

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("kind", sa.String(16), nullable=False, server_default="compression"))
        table.add_column(sa.Column("parent", sa.String(64), nullable=True))
        table.add_column(sa.Column("scores", sa.String(64), nullable=True))
        table.add_column(sa.Column("digest", sa.String(64), nullable=True))
        table.add_column(sa.Column("answer", sa.JSON(), nullable=True))
    op.create_index("ix_jobs_parent", "jobs", ["parent"])
    op.create_index("ix_jobs_digest", "jobs", ["digest"])
    op.create_index("ix_jobs_kind_number", "jobs", ["kind", "number"])


def downgrade() -> None:
    for index in ("ix_jobs_kind_number", "ix_jobs_digest", "ix_jobs_parent"):
        op.drop_index(index, "jobs")
    with op.batch_alter_table("jobs") as table:
        for column in ("answer", "digest", "scores", "parent", "kind"):
            table.drop_column(column)
