"""The key of a batch's request points to the batch, and goes with it and not with its first job."""

import sqlalchemy as sa
from alembic import op

revision = "r0008"
down_revision = "r0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("request_keys") as table:
        table.add_column(sa.Column("batch_number", sa.Integer(), nullable=True))
        table.create_foreign_key("fk_request_keys_batch", "batches", ["batch_number"], ["number"], ondelete="CASCADE")
        table.create_index("ix_request_keys_batch_number", ["batch_number"])
        table.alter_column("job_number", existing_type=sa.Integer(), nullable=True)
    op.execute(
        "UPDATE request_keys SET job_number = NULL, batch_number = (SELECT batches.number FROM batches JOIN jobs "
        "ON jobs.batch = batches.id WHERE jobs.number = request_keys.job_number) WHERE scope LIKE '% /v1/batches'"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE request_keys SET job_number = (SELECT min(jobs.number) FROM jobs JOIN batches ON jobs.batch = "
        "batches.id WHERE batches.number = request_keys.batch_number) WHERE batch_number IS NOT NULL"
    )
    op.execute("DELETE FROM request_keys WHERE job_number IS NULL")
    with op.batch_alter_table("request_keys") as table:
        table.alter_column("job_number", existing_type=sa.Integer(), nullable=False)
        table.drop_index("ix_request_keys_batch_number")
        table.drop_constraint("fk_request_keys_batch", type_="foreignkey")
        table.drop_column("batch_number")
