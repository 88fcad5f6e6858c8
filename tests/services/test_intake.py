"""Refusals before a run, by the files of the teacher and the corpus."""

import os
import time

import pytest

from services.intake import compression
from services.intake.compression import accept_compression
from services.intake.evaluation import task_findings
from tests.teacher_files import write_teacher
from tests.teachers import add_modules
from workloads.spec.errors import InputError
from workloads.spec.evaluation import EvaluationTask
from workloads.spec.request import parse_request
from workloads.storage.places import EVERYWHERE, Places
from workloads.storage.walking import Bounds


@pytest.fixture
def teacher(tmp_path):
    """Files that tell a shape, and hold no weights."""
    return lambda **config: {"teacher": {"model": str(write_teacher(tmp_path, **config))}}


def _findings(request):
    with pytest.raises(InputError) as refused:
        accept_compression(parse_request(request))
    return {finding.field: finding for finding in refused.value.errors}


def test_a_request_that_fits_its_teacher_is_kept(make_request, teacher):
    kept = accept_compression(parse_request(make_request() | teacher()))
    assert accept_compression(parse_request(kept.request.model_dump(mode="json"))) == kept


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"subspaces": {"preset": "autodistil-paper"}}, "subspaces.preset"),
        ({"subspaces": {"count": 16}}, "subspaces.count"),
        ({"training": {"sequence_length": 512}}, "training.sequence_length"),
        ({"objective": {"relation_heads": 4096}}, "objective.relation_heads"),
        ({"budgets": [{"name": "safe", "min_agreement": 0.97}]}, "budgets.0.min_agreement"),
        (
            {"subspaces": {"spaces": [{"name": "a", "layers": [2], "hidden_sizes": [9999], "mlp_ratios": [0.1],
                                       "heads": [2]}]}},
            "subspaces.spaces.0.hidden_sizes",
        ),
    ],
)  # fmt: skip
def test_what_the_teacher_cannot_give_is_refused_at_once(make_request, teacher, changes, field):
    found = _findings(make_request() | teacher() | changes)
    assert list(found) == [field] and found[field].remedy


def test_all_that_does_not_fit_is_told_together(make_request, teacher):
    wrong = {
        "subspaces": {"count": 16},
        "training": {"sequence_length": 512},
        "corpus": {"paths": ["/nowhere/b.txt"]},
        "budgets": [{"name": "a", "max_flops": 1, "sequence_length": 129}],
    }
    assert set(_findings(make_request() | teacher() | wrong)) == {
        "subspaces.count", "training.sequence_length", "budgets.0.sequence_length", "corpus.paths.0"
    }  # fmt: skip


@pytest.mark.parametrize("config", [{"num_attention_heads": 0}, {"num_attention_heads": 5}, {"hidden_size": "wide"}])
def test_a_teacher_whose_configuration_cannot_be_is_refused(make_request, teacher, config):
    assert list(_findings(make_request() | teacher(**config))) == ["teacher.model"]


def test_files_of_another_ending_are_refused_by_name(make_request, tmp_path):
    (tmp_path / "README.md").write_text("Text.")
    (tmp_path / "plain").write_text("Text.")
    (tmp_path / "v1.2").mkdir()
    (tmp_path / "v1.2" / "a.txt").write_text("Text.")
    names = ["README.md", "plain", "*.md", "v1.2", "v1.2/*", "v1.*/a.txt"]
    found = _findings(make_request() | {"corpus": {"paths": [f"{tmp_path}/{name}" for name in names]}})
    assert list(found) == ["corpus.paths.0", "corpus.paths.1", "corpus.paths.2"]
    assert all(".txt, .jsonl" in one.problem and one.remedy for one in found.values())


def _corpus_refusal(request, places=EVERYWHERE):
    started = time.process_time()
    with pytest.raises(InputError) as refused:
        accept_compression(parse_request(request), places=places)
    assert time.process_time() - started < 1
    (finding,) = (one for one in refused.value.errors if one.field.startswith("corpus"))
    return finding


@pytest.mark.parametrize("pattern", ["**.txt", "*/" + "../*/" * 9 + "x", "*/../../../../../etc/passwd", "[z-a].txt",
                                     "a" * 300 + ".txt", "a" * 300 + "*.txt", "/".join(["*"] * 500)])  # fmt: skip
def test_a_path_that_cannot_be_is_refused_at_once(make_request, tmp_path, pattern):
    for number in range(30):
        (tmp_path / str(number)).mkdir()
    finding = _corpus_refusal(make_request() | {"corpus": {"paths": [f"{tmp_path}/{pattern}"]}})
    assert finding.field == "corpus.paths.0" and finding.remedy


@pytest.mark.parametrize("pattern", ["s*/out/{}", "s*/../../outside/{}", "sub/l*-{}", "**/{}"])
def test_what_lies_out_of_the_roots_is_not_told_by_a_pattern(make_request, tmp_path, pattern):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "there.txt").write_text("secret")
    (root / "sub/out").symlink_to(outside)
    for name in ("there.txt", "gone.txt"):
        (root / f"sub/link-{name}").symlink_to(outside / name)
    told = {
        str(
            _corpus_refusal(
                make_request() | {"corpus": {"paths": [f"{root}/{pattern.format(name)}"]}}, Places((str(root),))
            )
        ).replace("gone", "there")
        for name in ("there.txt", "gone.txt")
    }
    assert len(told) == 1


def test_a_folder_of_very_many_files_is_left_to_the_run(make_request, tmp_path, monkeypatch):
    for number in range(50):
        (tmp_path / f"{number}.md").touch()
    (tmp_path / "z.txt").touch()
    monkeypatch.setattr(compression, "_LOOKED_AT", Bounds(entries=5))
    accept_compression(parse_request(make_request() | {"corpus": {"paths": [f"{tmp_path}/**/*.txt"]}}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"[" * 5000), ("a.jsonl", b'{"a": ' * 5000), ("a.jsonl", b"\xff\xfe"),
        ("a.jsonl", b'"' + b"a" * (4 << 20)),
        ("a.csv", b'"' + b"a" * (4 << 20)), ("a.csv", b"\xff"), ("a.parquet", b"PAR1" + b"\xff" * 50 + b"PAR1"),
        ("a.csv", None),
    ],
)  # fmt: skip
def test_a_labelled_file_that_cannot_be_read_is_a_finding(tmp_path, name, content):
    if content is None:
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    path = str(tmp_path / name)
    task = EvaluationTask.model_validate({"kind": "single", "train": [path], "test": [path], "text_columns": ["x"]})
    started = time.monotonic()
    findings = task_findings(task, EVERYWHERE)
    assert time.monotonic() - started < 5  # a pipe that nobody writes would hold it for ever
    assert findings and all(name in finding.problem for finding in findings)


@pytest.mark.parametrize(
    ("head", "changes", "field"),
    [
        ("classification", {"teacher": {"kind": "embedding"}}, "teacher.kind"),
        ("classification", {"objective": {"embedding": {}}}, "objective.embedding"),
        (None, {"objective": {"logits": {}}}, "objective.logits"),
        (None, {"corpus": {"text_columns": ["a", "b"]}}, "corpus.text_columns"),
        ("token-classification", {"corpus": {"text_columns": ["a", "b"]}}, "corpus.text_columns"),
        ("classification", {"training": {"sequence_length": 129}}, "training.sequence_length"),
        ("classification", {"teacher": {"embedding_size": 8}}, "teacher.embedding_size"),
        (None, {"teacher": {"kind": "embedding", "embedding_size": 65}}, "teacher.embedding_size"),
        (None, {"teacher": {"kind": "embedding"}, "search": {"heldout_blocks": 16}}, "search.heldout_blocks"),
    ],
)
def test_what_does_not_go_with_the_kind_of_teacher_is_refused(
    make_request, make_teacher, tmp_path, head, changes, field
):
    request = make_request()
    request["teacher"] = {"model": str(make_teacher(tmp_path / "teacher", head=head))}
    for name, change in changes.items():
        request[name] = request.get(name, {}) | change
    found = _findings(request)
    assert list(found) == [field] and found[field].remedy


def test_a_cross_encoder_needs_pairs(make_request, make_teacher, tmp_path):
    folder = make_teacher(tmp_path / "teacher", head="classification", labels=1, sentence_transformers={"version": "5"})
    request = make_request() | {"teacher": {"model": str(folder)}}
    assert list(_findings(request)) == ["corpus.text_columns"]
    request["corpus"]["text_columns"] = ["question", "answer"]
    kept = accept_compression(parse_request(request)).request
    assert (kept.teacher.kind, kept.corpus.columns) == ("classification", ("question", "answer"))


def test_the_kind_and_its_terms_are_told_once_accepted(make_request, make_teacher, tmp_path):
    kinds = {
        "encoder": make_teacher(tmp_path / "plain"),
        "classification": make_teacher(tmp_path / "classifier", head="classification"),
        "embedding": add_modules(make_teacher(tmp_path / "vectors"), max_seq_length=16),
    }
    for kind, folder in kinds.items():
        request = make_request() | {"teacher": {"model": str(folder)}, "training": {"tokens_per_superlm": 10**6}}
        kept = accept_compression(parse_request(request)).request
        assert kept.teacher.kind == kind
        terms = {name for name in ("logits", "embedding") if getattr(kept.objective, name) is not None}
        assert terms == {"encoder": set(), "classification": {"logits"}, "embedding": {"embedding"}}[kind]
        assert kept.training.sequence_length == (16 if kind == "embedding" else 128)
        assert accept_compression(kept).request == kept
        plain = request | {"teacher": {"model": str(folder), "kind": "encoder"}}
        assert accept_compression(parse_request(plain)).request.objective == parse_request(request).objective
