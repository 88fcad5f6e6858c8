"""Places that requests may read, by the service's answers."""

import pytest

from services.client import ApiError


@pytest.fixture
def root(tmp_path, text):
    root = tmp_path / "inputs"
    root.mkdir()
    (root / "a.txt").write_text("Some text.\n")
    (root / "rows.jsonl").write_text('{"x": "a", "label": 1}\n')
    (root / "out.txt").symlink_to(text)
    return root


def _findings(client, body, route="compressions"):
    answer = client.post(f"/v1/{route}", json=body)
    return {one["field"]: one for one in answer.json().get("errors", [])} if answer.status_code == 422 else {}


def test_with_keys_and_no_roots_only_the_hub_is_read(make_locked, make_request, text):
    client = make_locked(allowed_roots=None).client()
    found = _findings(client, make_request() | {"teacher": {"model": str(text.parent)}})
    assert set(found) == {"teacher.model", "corpus.paths.0"}
    assert "STILLROOM_ALLOWED_ROOTS" in found["corpus.paths.0"]["remedy"]
    assert _findings(client, make_request() | {"corpus": {"dataset": "someone/texts"}}) == {}


def test_paths_outside_are_refused_with_pointer_and_remedy_and_not_even_looked_for(make_locked, make_request, root):
    client = make_locked(allowed_roots=[str(root)]).client()
    assert _findings(client, make_request() | {"corpus": {"paths": [f"{root}/a.txt", f"{root}/a*.txt"]}}) == {}
    outside = ["/etc/passwd", "/etc/no-such-file", f"{root}/../x", f"{root}/out.txt", "~/x", "file:///etc/passwd",
               "s3://b/x?endpoint_override=169.254.169.254", "http://127.0.0.1/x", "/etc/*",
               f"{root}/*.txt"]  # fmt: skip
    found = _findings(client, make_request() | {"corpus": {"paths": outside}})
    assert set(found) == {f"corpus.paths.{number}" for number in range(len(outside))}
    assert found["corpus.paths.0"]["pointer"] == "/corpus/paths/0"
    there, gone = (found[f"corpus.paths.{number}"]["problem"].split(" ", 1)[1] for number in (0, 1))
    assert there == gone
    assert str(root) in found["corpus.paths.0"]["remedy"]


def test_every_field_that_names_a_place_is_looked_at(make_locked, make_request, root):
    client = make_locked(allowed_roots=[str(root)], allowed_hub=["good/*"]).client()
    task = {"train": ["/etc/t.jsonl"], "validation": [f"{root}/rows.jsonl", "/etc/v.jsonl"], "text_columns": ["x"]}
    body = {"teacher": {"model": "bad/model"}, "corpus": {"dataset": "/etc"}, "proxy_task": task}
    assert set(_findings(client, make_request() | body)) == {
        "teacher.model", "corpus.dataset", "proxy_task.train.0", "proxy_task.validation.1"
    }  # fmt: skip
    assert set(_findings(client, make_request() | {"corpus": {"dataset": "bad/data"}})) == {
        "teacher.model", "corpus.dataset"
    }  # fmt: skip
    batch = {
        "common": make_request(),
        "compressions": [{"teacher": {"model": "good/x"}}, {"corpus": {"dataset": "/e"}}],
    }
    found = client.post("/v1/batches", json=batch).json()["errors"]
    assert {one["pointer"] for one in found} >= {"/compressions/1/corpus/dataset"}
    assert client.post("/v1/compressions/plan", json=make_request() | body).status_code == 422


def test_an_evaluations_model_and_files_are_looked_at(make_locked, root):
    client = make_locked(allowed_roots=[str(root)]).client()
    task = {"kind": "single", "train": ["/etc/t.jsonl"], "test": [f"{root}/rows.jsonl"], "text_columns": ["x"]}
    found = _findings(client, {"model": {"teacher": {"model": "/etc"}}, "task": task}, "evaluations")
    assert set(found) == {"model.teacher.model", "task.train.0"}


def test_credentials_in_a_request_are_refused_and_not_kept(client, service, make_request):
    body = make_request() | {"corpus": {"paths": ["s3://key:hidden-secret@bucket/x"]}}
    with pytest.raises(ApiError) as caught:
        client.submit(body)
    text = caught.value.problem.model_dump_json()
    assert "credentials" in text
    assert "hidden-secret" not in text
    assert service.store.page() == []
