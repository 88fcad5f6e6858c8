"""Keys by which a client may send the same request again."""

import sqlalchemy as sa
from alembic import op

revision = "r0003"
down_revision = "r0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_keys",
        sa.Column("scope", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("job_number", sa.Integer(), sa.ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_request_keys_job_number", "request_keys", ["job_number"])


def downgrade() -> None:
    op.drop_index("ix_request_keys_job_number", "request_keys")
    op.drop_table("request_keys")
