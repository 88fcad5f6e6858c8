"""The bench from its command line to its report, with a tiny random teacher and made-up tasks."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.quality.__main__ import main
from benchmarks.quality.made_up import made_up_places
from benchmarks.quality.planning import plan_of
from benchmarks.quality.profiles import PROFILES
from benchmarks.quality.report import write_report
from benchmarks.quality.rows import Row, append_rows, read_rows
from benchmarks.quality.running import Limits, run

FEW = replace(
    PROFILES["smoke"],
    name="few",
    roles=("chosen",),
    tasks=("rte", "stsb"),
    sharing=None,
    predicting=None,
    shapes=None,
    recipes=None,
)


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _same(one: Row, other: Row) -> bool:
    return one.date == other.date and one.wall_seconds == other.wall_seconds


def test_an_interrupted_run_goes_on_and_runs_no_piece_again(tmp_path):
    places, results = made_up_places(tmp_path), tmp_path / "rows.parquet"
    ended: list[str] = []

    def interrupt(line: str) -> None:
        if " took " in line:
            ended.append(line)
            if len(ended) == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(FEW, places, results, Limits(), interrupt)
    first = read_rows(results)
    assert len(first) == 4
    assert run(FEW, places, results, Limits(), ended.append)
    rows = read_rows(results)
    assert all(_same(rows[name], row) for name, row in first.items())
    plan = plan_of(FEW, rows)
    assert not plan.later
    assert set(plan.pieces) == set(rows)
    kinds = [row.kind for row in rows.values()]
    assert sorted(set(kinds)) == ["distil", "labels", "scene", "search", "task", "untuned"]

    began = len(ended)
    assert run(FEW, places, results, Limits(), ended.append)
    assert ended[began:] == []

    # Another machine has the rows, not the weights.
    task = next(row for row in rows.values() if row.kind == "task" and row.name.startswith("chosen"))
    shutil.rmtree(tmp_path / "artifacts")
    elsewhere = tmp_path / "elsewhere.parquet"
    append_rows(elsewhere, [row for row in rows.values() if row is not task])
    assert run(FEW, places, elsewhere, Limits(), ended.append)
    again = read_rows(elsewhere)[task.fingerprint]
    assert not _same(again, task)
    assert again.values is not None and task.values is not None
    assert np.allclose(again.values, task.values, atol=1e-4)

    # Other validation rows would make other differences.
    path = places.data / "tasks" / "rte" / "validation.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    append_rows(tmp_path / "odd.parquet", [row for row in rows.values() if row is not task])
    with pytest.raises(RuntimeError, match="validation rows of rte"):
        run(FEW, places, tmp_path / "odd.parquet", Limits(), ended.append)


def test_a_piece_that_fails_keeps_no_other_from_running(tmp_path):
    places, results = made_up_places(tmp_path), tmp_path / "rows.parquet"
    (places.data / "tasks" / "stsb" / "train.parquet").unlink()
    told: list[str] = []
    with pytest.raises(RuntimeError, match="labels of stsb"):
        run(FEW, places, results, Limits(), told.append)
    names = {row.name for row in read_rows(results).values()}
    assert {"chosen at 0.5: rte, seed 0", "teacher: rte, seed 0"} <= names
    assert not any("stsb" in name for name in names)
    assert sum(line.startswith("failed: ") for line in told) == 1


@pytest.mark.slow
def test_pieces_run_side_by_side(tmp_path):
    places, results = made_up_places(tmp_path), tmp_path / "rows.parquet"
    assert run(FEW, places, results, Limits(jobs=2), lambda line: None)
    alone = tmp_path / "alone.parquet"
    shutil.rmtree(tmp_path / "artifacts")
    assert run(FEW, places, alone, Limits(), lambda line: None)
    both = read_rows(results), read_rows(alone)
    assert set(both[0]) == set(both[1])
    for name, row in both[0].items():
        if row.values is not None:
            assert np.allclose(row.values, both[1][name].values, atol=1e-4), row.name


def test_no_piece_begins_that_would_end_too_late(tmp_path):
    places, results = made_up_places(tmp_path), tmp_path / "rows.parquet"
    assert not run(FEW, places, results, Limits(hours=0.001), lambda line: None)
    assert read_rows(results) == {}


def test_only_named_pieces_run_with_what_they_need(tmp_path):
    places, results = made_up_places(tmp_path), tmp_path / "rows.parquet"
    assert run(FEW, places, results, Limits(only="teacher: rte"), lambda line: None)
    names = {row.name for row in read_rows(results).values()}
    assert names == {"teacher tiny and text", "labels of rte", "the teacher", "teacher: rte, seed 0"}
    with pytest.raises(LookupError, match="nothing"):
        run(FEW, places, results, Limits(only="nothing"), lambda line: None)


@pytest.mark.slow
def test_the_smoke_profile_runs_and_reports(tmp_path, capsys):
    work, out = tmp_path / "work", tmp_path / "report"
    options = ["--profile", "smoke", "--work", str(work)]
    assert main([*options, "--list"]) == 0
    assert "later  everything that depends on the teacher's shape" in capsys.readouterr().out
    assert main([*options, "--jobs", "1"]) == 0
    assert main([*options, "--list"]) == 0
    listed = capsys.readouterr().out
    assert "about" not in listed.rpartition("\n")[0].rpartition("\n")[0]
    assert main(["report", "--results", str(work / "quality.parquet"), "--out", str(out)]) == 0
    text = (out / "report.md").read_text()
    roles = ["chosen", "alone", "hand-made, ", "truncated teacher", "random choice 3", "random weights"]
    roles += [
        "chosen, polished",
        "AutoTinyBERT's objective",
        "alone, bill / 3",
        "alone, bill / 27",
        "alone, distillation seed 2",
    ]
    for role in roles:
        assert re.search(rf"^\| {re.escape(role)}", text, re.MULTILINE), role
    for shown in ("Chosen less the best hand-made student", "Share of the teacher's task average", "40 % movie"):
        assert shown in text
    assert re.search(r"^\| small \| 256 \| 2 \| \d\.\d{3}", text, re.MULTILINE)
    assert re.search(r"^\| −loss inside \| ", text, re.MULTILINE)
    assert re.search(r"^\| small \| layers to the last \| 0 \| 3 \| \d\.\d{3}", text, re.MULTILINE)
    for picture in re.findall(r"\]\((\S+\.png)\)", text):
        assert (out / picture).stat().st_size > 10_000
    assert text.count("](") == 2


def test_there_is_no_report_of_a_profile_without_rows(tmp_path):
    files = write_report({}, tmp_path)
    assert files == [tmp_path / "report.md"]
    assert "##" not in files[0].read_text()


def test_other_machines_rows_are_merged_by_the_command(tmp_path):
    places, results = made_up_places(tmp_path), tmp_path / "rows.parquet"
    run(FEW, places, results, Limits(only="teacher tiny"), lambda line: None)
    whole = tmp_path / "whole.parquet"
    assert main(["merge", str(results), "--results", str(whole)]) == 0
    assert list(read_rows(whole)) == list(read_rows(results))


def test_paths_of_a_made_up_scene_are_below_the_work_folder(tmp_path: Path):
    places = made_up_places(tmp_path)
    assert {places.data.parent, places.teacher("tiny").parent.parent} == {tmp_path}
    with pytest.raises(FileNotFoundError, match="--teachers"):
        places.teacher("another")
