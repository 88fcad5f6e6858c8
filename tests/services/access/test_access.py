"""Access to every route of the real service: the keys it accepts, and the jobs it shows."""

import itertools
import re
import time

import httpx
import pytest
from fastapi.routing import APIRoute

from services.access.caller import Caller, Scope
from services.api.app import bare_app
from tests.services.ending import succeed
from tests.services.searched import make_search
from workloads.documents.job_folder import EventDocument, JobFolder, ResultDocument, StudentDocument

OPEN = {"/healthz", "/readyz", "/openapi.json", "/", "/static/main.js"}
FILES = "artifacts/student/abc/builds/cmp_x-1"
ANYTHING = "anything"
HTTP = httpx.Client(timeout=60)


def _routes(app):
    """Every API route of an application, of whatever router, with each of its methods."""
    found, left = [], list(app.routes)
    while left:
        one = left.pop()
        left += getattr(one, "routes", None) or []
        nested = getattr(one, "original_router", None)
        left += nested.routes if nested is not None else []
        if isinstance(one, APIRoute):
            found += [(method, one.path) for method in sorted(one.methods)]
    return sorted(set(found))


ROUTES = _routes(bare_app())


def _v1():
    """Paths below ``/v1``, with parameters."""
    return sorted((method, re.sub(r":\w+\}", "}", path)) for method, path in ROUTES if path.startswith("/v1"))


def _filled(path, ids):
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: ids.get(match[1], ANYTHING), path)


def _ask(client, method, path):
    return client.request(method, path, **({"json": {}} if method == "POST" else {}))


def _code(answer):
    return answer.status_code, answer.json()["code"]


@pytest.fixture
def scene(locked, make_request, tmp_path):
    """A tenant's compression, selection, plan, evaluation and batch; their ids by the parameters of the paths."""
    service, ours = locked.service, Caller("ours", frozenset({Scope.READ, Scope.SUBMIT}))
    service.storage.write_bytes(f"{FILES}/config.json", b"{}")
    service.storage.write_bytes("jobs/frontier.png", b"png")
    compression = service.submit(make_request(), caller=ours)
    job = service.work.begin_attempt(compression.id)
    event = EventDocument(sequence=1, time="t", type="note", message="ours")
    JobFolder(service.storage, job.id).write_events(1, [event])
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture={"layers": 1}, params=10, flops=20,
        sequence_length=128, heldout_loss=0.5, files=FILES,
    )  # fmt: skip
    result = ResultDocument(
        status="succeeded",
        students=[student],
        artifacts={"scores": [make_search(service.storage).fingerprint]},
        pictures={"frontier.png": "jobs/frontier.png"},
    )
    job = succeed(service.work, job.id, result)
    model = {"compression": job.id, "student": "stu_1"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"x": "a fox", "label": 1}\n{"x": "a dog", "label": 0}\n')
    task = {"kind": "single", "train": [str(rows)], "test": [str(rows)], "text_columns": ["x"]}
    return {
        "job_id": job.id,
        "student_id": "stu_1",
        "path": "config.json",
        "name": "frontier.png",
        "selection_id": service.select(job, {"budgets": [{"name": "b", "max_params": 9_000_000}]}, caller=ours).id,
        "plan_id": service.plan(make_request(), caller=ours).id,
        "evaluation_id": service.evaluate({"model": model, "task": task}, caller=ours).id,
        "batch_id": service.submit_batch({"compressions": [make_request()]}, caller=ours).id,
    }


def test_every_route_asks_for_a_key_and_for_the_scope_that_it_needs(locked):
    reader, writer = locked.client("ours", Scope.READ), locked.client("ours", Scope.SUBMIT)
    routes = _v1()
    assert len(routes) > 30
    for method, path in routes:
        place = _filled(path, {})
        bare = HTTP.request(method, f"{locked.url}{place}")
        assert _code(bare) == (401, "unauthorized"), (method, path)
        assert bare.headers["www-authenticate"] == "Bearer"
        allowed, refused = (reader, writer) if method == "GET" else (writer, reader)
        assert _code(_ask(refused, method, place)) == (403, "forbidden"), (method, path)
        assert _ask(allowed, method, place).status_code not in {401, 403}, (method, path)


def test_what_asks_for_no_key_is_known_and_tells_nothing_of_jobs(locked):
    hidden = {path for _, path in ROUTES if not path.startswith("/v1")}
    assert hidden <= OPEN | {"/metrics", "/static/{path:path}", "/docs", "/redoc", "/docs/oauth2-redirect"}
    for path in OPEN:
        assert HTTP.get(f"{locked.url}{path}").status_code in {200, 503}, path


def test_the_walk_sees_every_route_that_is_described():
    paths = bare_app().openapi()["paths"]
    described = [(method.upper(), path) for path, operations in paths.items() for method in operations]
    assert set(_v1()) == {(method, path) for method, path in described if path.startswith("/v1")}


def test_what_belongs_to_another_tenant_is_not_there(locked, scene):
    ours, theirs = locked.client("ours"), locked.client("theirs")
    for method, path in _v1():
        if "{" not in path:
            continue
        place, nowhere = _filled(path, scene), _filled(path, {})
        answer = _ask(theirs, method, place)
        assert _code(answer) == (404, "not_found"), (method, path)
        # The answer does not reveal that the object exists.
        gone = _ask(theirs, method, nowhere).json()["detail"]
        assert gone.count(ANYTHING) <= 1
        assert re.sub(r"\b\w+_[0-9a-f]{16}\b", ANYTHING, answer.json()["detail"]) == gone, (method, path)
        if method == "GET" and path.endswith("/log"):  # a job that never ran has no log; its owner gets the reason
            job = place.split("/")[3]
            assert (
                _ask(ours, method, place)
                .json()["detail"]
                .startswith(
                    (f"There is no log of attempt 1 of {job}", f"{job} is ", "Only Ray can have the log of attempt 1")
                )
            ), (method, path)
        elif method == "GET" and "{model_id}" in path:  # an evaluation that never ran has kept no model
            assert " and has kept no model " in _ask(ours, method, place).json()["detail"], (method, path)
        elif method == "GET":
            assert _ask(ours, method, place).status_code == 200, (method, path)
    for place in ("compressions", "batches", "evaluations", "plans"):
        assert ours.get(f"/v1/{place}").json()[place]
        for after in ({}, {"after": "999999999"}):  # the cursor of the highest number
            assert theirs.get(f"/v1/{place}", params=after).json()[place] == []
    assert theirs.get("/v1/compressions", params={"batch": scene["batch_id"]}).json()["compressions"] == []
    model = {"compression": scene["job_id"], "student": "stu_1"}
    task = {"kind": "single", "train": ["/t.jsonl"], "test": ["/t.jsonl"], "text_columns": ["x"]}
    refused = theirs.post("/v1/evaluations", json={"model": model, "task": task})
    assert "There is no compression" in refused.json()["detail"]


def test_an_administrator_sees_and_ends_everyones(locked, scene):
    admin = locked.client("house", Scope.ADMIN)
    assert admin.get(f"/v1/compressions/{scene['job_id']}").status_code == 200
    assert len(admin.get("/v1/compressions").json()["compressions"]) == 2
    plan = admin.post(f"/v1/plans/{scene['plan_id']}/cancel").json()
    assert plan["status"] == "cancelled"
    body = {"budgets": [{"name": "b", "max_params": 9_000_000}]}
    made = admin.post(f"/v1/compressions/{scene['job_id']}/selections", json=body).json()
    assert locked.service.store.get(made["id"]).tenant == "ours"  # it belongs to the tenant of its compression


def test_a_submission_belongs_to_the_keys_tenant(locked, make_request):
    job = locked.client("theirs").post("/v1/compressions", json=make_request()).json()
    assert locked.service.store.get(job["id"]).tenant == "theirs"


def test_two_tenants_may_use_the_same_idempotency_key(locked, make_request):
    headers = {"Idempotency-Key": "k"}
    bodies = {"ours": make_request(of="ours"), "theirs": make_request(of="theirs")}
    clients = {tenant: locked.client(tenant) for tenant in bodies}
    first, again = (
        [clients[one].post("/v1/compressions", json=body, headers=headers).json()["id"] for one, body in bodies.items()]
        for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == 2


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer nonsense", "Basic c3JrOg==", "srk_00000000_x", "Bearer srk_\xff"]
)
def test_what_is_no_key_is_refused_alike(locked, header):
    answer = HTTP.get(f"{locked.url}/v1/me", headers={"Authorization": header.encode("latin-1")})
    assert _code(answer) == (401, "unauthorized")


def test_a_revoked_key_is_refused_by_every_service_on_the_database_within_five_seconds(make_locked, postgres, tmp_path):
    database = {"database": postgres.format("postgres")}
    services = [make_locked(state_folder=tmp_path / name, **database) for name in ("a", "b")]
    key, text = services[0].service.keys.create("ours", [Scope.READ])
    clients = [one.with_key(text) for one in services]
    assert [client.get("/v1/me").status_code for client in clients] == [200, 200]
    services[0].service.keys.revoke(key.id)
    revoked = time.monotonic()
    for client in clients:
        while client.get("/v1/me").status_code == 200:
            assert time.monotonic() - revoked < 5
            time.sleep(0.1)
        assert client.get("/v1/me").status_code == 401


def test_a_stream_ends_when_its_key_is_revoked(locked, make_request):
    key, text = locked.service.keys.create("ours", [Scope.READ, Scope.SUBMIT])
    client = locked.with_key(text)
    job = client.post("/v1/compressions", json=make_request()).json()["id"]
    headers = {"Accept": "text/event-stream"}
    with client.stream("GET", f"/v1/compressions/{job}/events", headers=headers, timeout=10) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        locked.service.keys.revoke(key.id)
        revoked = time.monotonic()
        assert [line for line in lines if line.startswith("event")] == []  # unlike at the end of a job
    assert time.monotonic() - revoked < 6


def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_another_is_not(make_locked):
    locked = make_locked(requests_per_second=1)
    client, other = locked.client(), locked.client()
    answers = [client.get("/v1/me") for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 3
    assert _code(refused[0]) == (429, "rate_limited")
    assert refused[0].headers["retry-after"] == "1"
    assert other.get("/v1/me").status_code == 200


def test_the_check_costs_no_question_to_the_database_within_a_moment(locked, monkeypatch):
    client = locked.client()
    assert client.get("/v1/latency-targets").status_code == 200
    monkeypatch.setattr(locked.service.keys, "check", None)
    assert client.get("/v1/latency-targets").status_code == 200


def test_me_tells_who_the_caller_is_and_what_they_may_have(make_locked, make_request):
    locked = make_locked(tenant_max_unfinished=7)
    client = locked.client("ours", Scope.SUBMIT, Scope.READ)
    client.post("/v1/compressions", json=make_request() | {"training": {"tokens_per_superlm": 10_000}})
    me = client.get("/v1/me").json()
    assert (me["tenant"], me["scopes"]) == ("ours", ["read", "submit"])
    assert me["key_id"] == locked.service.keys.all("ours")[0].id
    assert me["quotas"] == {"max_running": None, "max_unfinished": 7, "max_tokens": None, "max_stored_bytes": None}
    assert me["usage"] == {"running": 0, "unfinished": 1, "tokens": 30_000, "stored_bytes": 0}


def test_metrics_need_a_key_unless_they_are_open(make_locked):
    locked, opened = make_locked(), make_locked(open_metrics=True)
    assert HTTP.get(f"{locked.url}/metrics").status_code == 401
    assert "stillroom_jobs" in locked.client("ours", Scope.READ).get("/metrics").text
    assert "stillroom_jobs" in HTTP.get(f"{opened.url}/metrics").text


def test_without_keys_the_caller_is_local_and_may_do_everything(client):
    me = HTTP.get(f"{client.server}/v1/me").json()
    assert (me["tenant"], me["key_id"], me["scopes"]) == ("local", None, ["admin", "read", "submit"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "attacker.example"}, 403),
        ({"Host": "127.0.0.1.attacker.example"}, 403),
        ({"Host": "attacker.example:8000"}, 403),
        ({"Host": "user@127.0.0.1"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}, 200),
    ],
)
def test_without_keys_pages_of_others_get_nothing(client, headers, status):
    for path in ("/v1/me", "/metrics", "/"):
        answer = HTTP.get(f"{client.server}{path}", headers=headers)
        assert answer.status_code == status, path
        if status == 403:
            assert answer.json()["code"] == "forbidden"


def test_with_keys_any_host_and_origin_may_ask(locked):
    client = locked.client()
    for headers in ({"Host": "stillroom.example"}, {"Origin": "https://elsewhere.example"}):
        assert client.get("/v1/me", headers=headers).status_code == 200


def test_ids_of_one_kind_are_not_taken_for_another(locked, scene):
    client = locked.client("ours")
    kinds = {"job_id": "/v1/compressions", "evaluation_id": "/v1/evaluations", "batch_id": "/v1/batches"}
    for (own, _), (_, place) in itertools.permutations(kinds.items(), 2):
        assert client.get(f"{place}/{scene[own]}").status_code == 404
