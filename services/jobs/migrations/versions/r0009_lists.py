"""Lists by indexes: what they show and are filtered by stands in columns and tags of its own."""

import sqlalchemy as sa
from alembic import op

from services.jobs import summaries, tags

revision = "r0009"
down_revision = "r0008"
branch_labels = None
depends_on = None

PAGE = 500
INDEXES = {
    "ix_jobs_kind_status_number": ("jobs", ["kind", "status", "number"]),
    "ix_jobs_tenant_kind_status_number": ("jobs", ["tenant", "kind", "status", "number"]),
    "ix_jobs_batch_status": ("jobs", ["batch", "status", "finished_at"]),
    "ix_jobs_tenant_begun": ("jobs", ["tenant", "begun_at"]),
    "ix_jobs_tenant_use": ("jobs", ["tenant", "status", "tokens", "stored_bytes"]),
    "ix_attempts_status": ("attempts", ["status"]),
}


def upgrade() -> None:
    op.add_column("jobs", sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("summary", sa.JSON(), nullable=False, server_default="{}"))
    for thing, table in (("job", "jobs"), ("batch", "batches")):
        column = f"{thing}_number"
        op.create_table(
            f"{thing}_tags",
            sa.Column("digest", sa.String(32), primary_key=True),
            sa.Column(
                column,
                sa.Integer(),
                sa.ForeignKey(f"{table}.number", ondelete="CASCADE"),
                primary_key=True,
                autoincrement=False,
            ),
        )
        op.create_index(f"ix_{thing}_tags_{column}", f"{thing}_tags", [column])
    op.execute("UPDATE jobs SET begun_at = (SELECT max(started_at) FROM attempts WHERE job_number = jobs.number)")
    _fill_jobs()
    _fill_batches()
    op.drop_index("ix_jobs_batch", "jobs")
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns)


def _fill_jobs() -> None:
    jobs = sa.table("jobs", *(sa.column(name) for name in ("number", "kind", "tenant", "batch", "parent")),
                    *(sa.column(name, sa.JSON()) for name in ("request", "result", "summary")))  # fmt: skip
    job_tags = sa.table("job_tags", sa.column("digest"), sa.column("job_number"))
    connection, last = op.get_bind(), 0
    while rows := connection.execute(
        sa.select(*(jobs.c[name] for name in ("number", "kind", "tenant", "batch", "parent", "request", "result")))
        .where(jobs.c.number > last)
        .order_by(jobs.c.number)
        .limit(PAGE)
    ).all():
        for number, kind, tenant, batch, parent, request, result in rows:
            request, result = request or {}, result or {}
            summary = summaries.with_students(summaries.of_request(request), result.get("students") or [])
            connection.execute(jobs.update().where(jobs.c.number == number).values(summary=summary))
            found = tags.digests(kind, tenant, tags.filters_of(request, batch, parent))
            if found:
                connection.execute(job_tags.insert(), [{"digest": one, "job_number": number} for one in found])
            last = number


def _fill_batches() -> None:
    connection = op.get_bind()
    batches = sa.table("batches", sa.column("number"), sa.column("tenant"), sa.column("labels", sa.JSON()))
    batch_tags = sa.table("batch_tags", sa.column("digest"), sa.column("batch_number"))
    for number, tenant, labels in connection.execute(sa.select(batches)).all():
        found = tags.digests("batch", tenant, iter(tags.labels(labels or {})))
        if found:
            connection.execute(batch_tags.insert(), [{"digest": one, "batch_number": number} for one in found])


def downgrade() -> None:
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
    op.create_index("ix_jobs_batch", "jobs", ["batch"])
    op.drop_table("batch_tags")
    op.drop_table("job_tags")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("summary")
        jobs.drop_column("begun_at")
