"""Estimates of a plan beside the actual figures of its compression."""

import pytest

from tests.services.ending import succeed
from tests.services.searched import finished
from workloads.documents.job_folder import PlanDocument, ResultDocument


def test_a_compression_says_what_its_plan_had_said(client, service, make_request):
    request = make_request()
    queued = client.plan(request)
    assert queued.id.startswith("pln_") and queued.plan is None
    plan = PlanDocument(
        candidates={"tiny": 4}, budgets=[], steps=[], seconds=60.0, device_hours=0.1, device="CPU core",
        calibration_seconds=3.0,
    )  # fmt: skip
    service.work.begin_attempt(queued.id)
    succeed(service.work, queued.id, ResultDocument(status="succeeded", plan=plan))
    assert client.planned(queued.id).plan == plan
    job = finished(service, request)
    planned = client.get(job.id).planned
    assert planned is not None and (planned.plan, planned.seconds) == (queued.id, 60.0)
    assert planned.took_seconds == 90.0 and planned.error == pytest.approx(0.5)
