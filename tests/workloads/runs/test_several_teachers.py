"""Compressions of several teachers at once, as in a batch: shared stages are built once, the others for each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workloads.runs.scenes import House
from workloads.craft.text.tokenizer import Tokenizer
from workloads.documents.job_folder import ResultDocument
from workloads.shapes.teacher_files import TOKENIZER_FILES

pytestmark = [pytest.mark.ray, pytest.mark.slow]

JOBS = ("cmp_one", "cmp_two", "cmp_other")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, make_teacher: Callable[..., Path], ray_cluster: str) -> House:
    folder = tmp_path_factory.mktemp("house")
    return House.furnish(folder, str(folder / "storage"), make_teacher, ray_cluster)


@pytest.fixture(scope="module")
def teachers(house: House, make_teacher: Callable[..., Path]) -> dict[str, Path]:
    """Two teachers of other weights and shape with one tokenizer, and a third with another one."""
    folder = house.teacher.parent
    second = make_teacher(folder / "second", layers=3, seed=1)
    for name in TOKENIZER_FILES:
        if (house.teacher / name).exists():
            shutil.copy(house.teacher / name, second / name)
    return dict(zip(JOBS, (house.teacher, second, make_teacher(folder / "other", "roberta")), strict=True))


@pytest.fixture(scope="module")
def ended(house: House, teachers: dict[str, Path]) -> dict[str, ResultDocument]:
    """One compression of each, started at once."""
    space = {"name": "thin", "layers": [1, 2], "hidden_sizes": [16], "mlp_ratios": [2.0]}
    requests = {
        job: house.request(teacher={"model": str(teacher)}, subspaces={"spaces": [space]})
        for job, teacher in teachers.items()
    }
    started = {job: house.start(job, 1, request) for job, request in requests.items()}
    results = {job: house.end(process, job, 1) for job, process in started.items()}
    assert {job: code for job, (code, _) in results.items()} == dict.fromkeys(JOBS, 0)
    return {job: result for job, (_, result) in results.items()}


def test_the_corpus_is_tokenised_once_a_tokenizer_and_not_once_a_teacher(
    house: House, ended: dict[str, ResultDocument]
) -> None:
    (one,), (two,), (other,) = (ended[job].artifacts["corpus"] for job in JOBS)
    assert one == two != other
    builds = {name: house.storage.list(f"artifacts/corpus/{name}/builds") for name in (one, other)}
    assert {Path(folder).name for folder in builds[other]} == {"cmp_other-1"}
    (built,) = (Path(folder).name for folder in builds[one])
    assert built in {"cmp_one-1", "cmp_two-1"}
    assert {Path(folder).name for folder in house.storage.list("artifacts/corpus")} == {one, other}
    reused = {job: step.reused for job in JOBS for step in house.progress(job).steps if step.name == "corpus"}
    assert reused == {job: f"{job}-1" != built and job != "cmp_other" for job in JOBS}


def test_two_teachers_share_a_tokenizer_when_it_gives_the_same_tokens(teachers: dict[str, Path]) -> None:
    one, two, other = (Tokenizer.load(teachers[job]).fingerprint for job in JOBS)
    assert one == two != other


@pytest.mark.parametrize("stage", ["teacher", "superlm", "scores", "student"])
def test_what_depends_on_the_teacher_is_each_teachers_own(
    house: House, ended: dict[str, ResultDocument], stage: str
) -> None:
    made = [fingerprint for job in JOBS for fingerprint in ended[job].artifacts[stage]]
    assert len(set(made)) == len(made)
    for job in JOBS:
        for fingerprint in ended[job].artifacts[stage]:
            builds = house.storage.list(f"artifacts/{stage}/{fingerprint}/builds")
            assert [Path(folder).name for folder in builds] == [f"{job}-1"]
