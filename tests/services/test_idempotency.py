"""Requests sent twice over HTTP: with the same key they make no second job."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from services.client import ApiError
from tests.services.searched import finished

SELECTION = {"budgets": [{"name": "x", "max_params": 10**7}]}


def test_a_request_sent_again_is_answered_with_the_same_job(client, make_request):
    with httpx.Client(base_url=client.server, headers={"Idempotency-Key": "k"}) as sender:
        answers = [sender.post("/v1/compressions", json=make_request()) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(client.page().compressions) == 1


def test_many_that_send_the_same_request_at_once_get_the_same_job(client, make_request):
    request = make_request()
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: client.submit(request, key="k"), range(8)))
    assert len({job.id for job in jobs}) == 1
    assert len(client.page().compressions) == 1


def test_without_a_key_each_request_makes_a_job_of_its_own(client, make_request):
    assert client.submit(make_request()).id != client.submit(make_request()).id


def test_a_key_that_comes_with_another_request_is_refused(client, make_request):
    client.submit(make_request(), key="k")
    with pytest.raises(ApiError) as refused:
        client.submit(make_request(other=1), key="k")
    assert (refused.value.problem.status, refused.value.problem.code) == (422, "idempotency_key_reused")
    assert len(client.page().compressions) == 1


def test_a_refused_request_does_not_use_up_its_key(client, make_request):
    with pytest.raises(ApiError):
        client.submit(make_request() | {"budgets": []}, key="k")
    assert client.submit(make_request(), key="k").id == client.submit(make_request(), key="k").id


def test_a_request_is_answered_again_when_its_corpus_has_gone_since(client, make_request, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("Four score.")
    request = make_request() | {"corpus": {"paths": [str(corpus)]}}
    job = client.submit(request, key="k")
    corpus.unlink()
    assert client.submit(request, key="k").id == job.id


def test_plans_and_selections_have_keys_too_each_its_own(client, service, make_request):
    request = make_request()
    job = finished(service, request)
    assert client.plan(request, key="k").id == client.plan(request, key="k").id
    chosen = client.select(job.id, SELECTION, key="k")
    assert client.select(job.id, SELECTION, key="k") == chosen
    with httpx.Client(base_url=client.server) as sender:
        cancelled = sender.post(f"/v1/selections/{chosen.id}/cancel")
        assert sender.get(cancelled.headers["location"]).json()["id"] == chosen.id
    with pytest.raises(ApiError) as refused:
        client.select(job.id, {"budgets": [{"name": "x", "max_params": 10**6}]}, key="k")
    assert refused.value.problem.code == "idempotency_key_reused"


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_empty_or_too_long_is_refused(client, make_request, key):
    with pytest.raises(ApiError) as refused:
        client.submit(make_request(), key=key)
    assert refused.value.errors[0].field == "Idempotency-Key"
