"""Usage of a tenant's deleted jobs; keys of requests are valid within a tenant."""

import sqlalchemy as sa
from alembic import op

revision = "r0006"
down_revision = "r0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("forgotten_tokens", "forgotten_bytes"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE request_keys SET scope = 'local ' || scope WHERE scope LIKE '/%'")


def downgrade() -> None:
    op.execute("UPDATE request_keys SET scope = substr(scope, 7) WHERE scope LIKE 'local /%'")
    for name in ("forgotten_bytes", "forgotten_tokens"):
        op.drop_column("tenants", name)
