"""Tenants and their keys, batches, and claims of services on jobs."""

import sqlalchemy as sa
from alembic import op

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in (
        sa.Column("tenant", sa.String(64), nullable=False, server_default="local"),
        sa.Column("batch", sa.String(64)),
        sa.Column("owner", sa.String(128)),
        sa.Column("token", sa.String(32)),
        sa.Column("claimed_until", _TIME),
        sa.Column("tokens", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column)
    op.create_index("ix_jobs_tenant_kind_number", "jobs", ["tenant", "kind", "number"])
    op.create_index("ix_jobs_batch", "jobs", ["batch"])
    op.create_index("ix_jobs_owner", "jobs", ["owner"])
    op.create_table(
        "batches",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="local"),
        sa.Column("name", sa.String(255)),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("max_running", sa.Integer()),
        sa.Column("created_at", _TIME, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_batches_tenant_number", "batches", ["tenant", "number"])
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("max_running", sa.Integer()),
        sa.Column("max_unfinished", sa.Integer()),
        sa.Column("max_tokens", sa.BigInteger()),
        sa.Column("max_stored_bytes", sa.BigInteger()),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("tenant", sa.String(64), sa.ForeignKey("tenants.name", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("revoked_at", _TIME),
        sa.Column("last_used_at", _TIME),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])


def downgrade() -> None:
    op.drop_table("api_keys")
    op.drop_table("tenants")
    op.drop_table("batches")
    for index in ("ix_jobs_owner", "ix_jobs_batch", "ix_jobs_tenant_kind_number"):
        op.drop_index(index, "jobs")
    for column in ("stored_bytes", "tokens", "claimed_until", "token", "owner", "batch", "tenant"):
        op.drop_column("jobs", column)
