"""A confined run reads nothing from outside its places, even if the paths of its request change later."""

import json
import pickle
import shutil

import pytest
from datasets import Dataset

from workloads.craft.tasks.data import read_task, task_fingerprint
from workloads.craft.teacher import fetch_teacher
from workloads.craft.text.readers import read_documents
from workloads.craft.text.sources import list_sources
from workloads.craft.text.splits import Split, plan_splits
from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec, TeacherSpec
from workloads.spec.search import TaskSpec
from workloads.storage.places import EVERYWHERE, Places, confine

SECRET = "the secret of another tenant"


@pytest.fixture
def root(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "a.txt").write_text("inside")
    (outside / "secret.txt").write_text(SECRET)
    confine(Places((str(root),), ("good/*",)))
    yield root
    confine(EVERYWHERE)


def _texts(spec):
    texts = []
    for source in list_sources(spec):
        with source.open() as file:
            texts.append(file.read().decode())
    return texts


def test_files_of_a_corpus_inside_are_read(root):
    assert _texts(CorpusSpec(paths=[str(root)])) == ["inside"]
    assert _texts(CorpusSpec(paths=[f"{root}/*.txt"])) == ["inside"]


@pytest.mark.parametrize("as_glob", [False, True])
def test_links_in_a_folder_of_a_corpus_lead_nowhere(root, as_glob):
    (root / "b.txt").symlink_to(root.parent / "outside" / "secret.txt")
    with pytest.raises(InputError, match="where requests may read"):
        _texts(CorpusSpec(paths=[f"{root}/*.txt" if as_glob else str(root)]))
    (root / "b.txt").unlink()
    (root / "deep").symlink_to(root.parent / "outside")
    with pytest.raises(InputError, match="where requests may read"):
        _texts(CorpusSpec(paths=[f"{root}/**/*.txt" if as_glob else str(root)]))


def test_a_file_that_is_swapped_after_it_was_listed_is_not_read_by_a_worker(root):
    source = pickle.dumps(list_sources(CorpusSpec(paths=[str(root)]))[0])
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(root.parent / "outside" / "secret.txt")
    confine(EVERYWHERE)  # as in a worker, which is another process
    with pytest.raises(InputError, match="where requests may read"):
        pickle.loads(source).open()


def test_a_split_that_is_written_down_keeps_where_it_may_read(root):
    spec = CorpusSpec(paths=[str(root)])
    written = [split.to_json() for split in plan_splits(list_sources(spec), spec)]
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(root.parent / "outside" / "secret.txt")
    confine(EVERYWHERE)
    (piece,) = (piece for text in written for piece in Split.from_json(text).pieces)
    with pytest.raises(InputError, match="where requests may read"):
        list(read_documents(piece, spec))


def test_a_folder_that_is_swapped_after_acceptance_is_not_read(root):
    folder = root / "corpus"
    folder.mkdir()
    spec = CorpusSpec(paths=[str(folder)])
    folder.rmdir()
    folder.symlink_to(root.parent / "outside")
    with pytest.raises(InputError, match="leads out of where requests may read"):
        list_sources(spec)


@pytest.mark.parametrize("place", ["/etc", "file:///etc", "s3://bucket/x?endpoint_override=169.254.169.254"])
def test_places_outside_are_refused_without_asking_them(root, place):
    with pytest.raises(InputError):
        list_sources(CorpusSpec(paths=[place]))
    with pytest.raises(InputError):
        list_sources(CorpusSpec(dataset=place))
    with pytest.raises(InputError):
        fetch_teacher(TeacherSpec(model=place), root / "into")


def test_a_saved_datasets_own_lists_lead_nowhere(root):
    saved = root / "saved"
    Dataset.from_dict({"text": ["x", "y"]}).save_to_disk(str(saved))
    shutil.copy(next(saved.glob("*.arrow")), root.parent / "outside" / "theirs.arrow")
    assert len(list_sources(CorpusSpec(dataset=str(saved)))) == 1
    state = json.loads((saved / "state.json").read_text())
    state["_data_files"] = [{"filename": "../../outside/theirs.arrow"}]
    (saved / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="not in the format that `datasets` writes"):
        list_sources(CorpusSpec(dataset=str(saved)))
    (saved / "theirs.arrow").symlink_to(root.parent / "outside" / "theirs.arrow")
    state["_data_files"] = [{"filename": "theirs.arrow"}]
    (saved / "state.json").write_text(json.dumps(state))
    source = list_sources(CorpusSpec(dataset=str(saved)))[0]
    with pytest.raises(InputError, match="leads out of where requests may read"):
        source.open()


def test_a_datasets_folder_runs_no_code(root):
    saved, mark = root / "saved", root / "it-ran"
    saved.mkdir()
    for name in ("saved.py", "__init__.py", "dataset.py"):
        (saved / name).write_text(f"open({str(mark)!r}, 'w')")
    (saved / "data.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=r"no state\.json"):
        list_sources(CorpusSpec(dataset=str(saved)))
    assert not mark.exists()


def test_a_teacher_inside_is_copied_and_one_whose_files_lead_out_is_not(root, make_teacher):
    teacher = make_teacher(root / "teacher", "bert")
    into = fetch_teacher(TeacherSpec(model=str(teacher)), root.parent / "into")
    assert (into / "model.safetensors").exists()
    (teacher / "README.md").symlink_to(root.parent / "outside" / "secret.txt")
    with pytest.raises(InputError, match="leads out"):
        fetch_teacher(TeacherSpec(model=str(teacher)), root.parent / "into")
    assert all(SECRET not in file.read_text(errors="ignore") for file in into.rglob("*") if file.is_file())
    (teacher / "README.md").unlink()
    (teacher / "config.json").unlink()
    (teacher / "config.json").symlink_to(root.parent / "outside" / "secret.txt")
    with pytest.raises(InputError, match="leads out"):
        fetch_teacher(TeacherSpec(model=str(teacher)), root.parent / "into")


def test_hub_ids_that_are_not_allowed_are_not_downloaded(root):
    with pytest.raises(InputError, match="not among the hub ids"):
        fetch_teacher(TeacherSpec(model="bad/model"), root / "into")


def test_a_tasks_files_that_lead_out_are_not_read(root):
    rows = '{"x": "a fox", "label": 1}\n{"x": "a dog", "label": 0}\n'
    (root / "rows.jsonl").write_text(rows)
    (root.parent / "outside" / "rows.jsonl").write_text(rows)
    spec = TaskSpec(train=[str(root / "rows.jsonl")], validation=[str(root / "rows.jsonl")], text_columns=["x"])
    assert len(read_task(spec).train) == 2
    (root / "rows.jsonl").unlink()
    (root / "rows.jsonl").symlink_to(root.parent / "outside" / "rows.jsonl")
    for read in (read_task, task_fingerprint):
        with pytest.raises(InputError) as caught:
            read(spec)
        assert caught.value.errors[0].field == "proxy_task.train.0"
