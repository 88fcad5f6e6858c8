from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3 import S3Server
from workloads.craft.text.sources import list_sources
from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec


def _tree(root: Path) -> Path:
    for name in ("a.txt", "b.jsonl", "deep/c.parquet", "deep/er/d.TXT", ".hidden.txt", "_left/e.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return root


def _names(root: Path, *paths: str) -> list[str]:
    spec = CorpusSpec(paths=[str(root / path) for path in paths])
    return [str(Path(source.path).relative_to(root)) for source in list_sources(spec)]


def test_a_folder_gives_its_files_at_any_depth_but_hidden_ones(tmp_path: Path) -> None:
    assert _names(_tree(tmp_path), ".") == ["a.txt", "b.jsonl", "deep/c.parquet", "deep/er/d.TXT"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.txt", [".hidden.txt", "a.txt"]),
        ("deep/*", ["deep/c.parquet"]),
        ("**/*.parquet", ["deep/c.parquet"]),
        ("**/[!c].*", ["a.txt", "b.jsonl", "deep/er/d.TXT", "_left/e.txt"]),
        ("deep/?.parquet", ["deep/c.parquet"]),
    ],
)
def test_a_glob_gives_what_matches_it(tmp_path: Path, glob: str, found: list[str]) -> None:
    assert sorted(_names(_tree(tmp_path), glob)) == sorted(found)


def test_a_file_named_twice_counts_once(tmp_path: Path) -> None:
    assert _names(_tree(tmp_path), "a.txt", "*.txt", "a.txt").count("a.txt") == 1


def test_a_file_whose_name_holds_glob_signs_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "what[1].txt").write_text("x")
    assert _names(tmp_path, "what[1].txt") == ["what[1].txt"]


def test_a_folder_with_links_in_a_circle_gives_every_file_once(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "a.txt").write_text("a")
    for link, to in (("latest", "."), ("x/up", ".."), ("y", "x")):
        (tmp_path / link).symlink_to(to)
    assert _names(tmp_path, "") == _names(tmp_path, "**/*.txt") == ["a.txt"]


@pytest.mark.parametrize("pattern", ["**.txt", "*/" + "../*/" * 9 + "*.txt", "[z-a].txt", "*" * 100, "x" * 300 + "*"])
def test_a_pattern_that_finds_nothing_or_cannot_be_is_a_finding(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError) as caught:
        _names(tmp_path, pattern)
    assert caught.value.errors[0].field == "corpus.paths"


@pytest.mark.parametrize("path", ["", "notes.pdf", "*.pdf"])
def test_a_file_of_an_unknown_ending_is_refused_by_name(tmp_path: Path, path: str) -> None:
    (tmp_path / "notes.pdf").write_text("x")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"notes\.pdf") as caught:
        _names(tmp_path, path)
    assert caught.value.errors[0].field == "corpus.paths"


@pytest.mark.parametrize("path", ["gone.txt", "gone/", "*.txt", "empty"])
def test_paths_without_files_are_refused_by_name(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=path.strip("/").replace("*", r"\*")) as caught:
        list_sources(CorpusSpec(paths=[str(tmp_path / path)]))
    assert caught.value.errors[0].field == "corpus.paths"


def test_a_relative_path_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_tree(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert [source.path for source in list_sources(CorpusSpec(paths=["deep/*.parquet"]))] == [
        str(tmp_path / "deep/c.parquet")
    ]


@pytest.mark.parametrize("url", ["nope://bucket/a.txt", "s3://"])
def test_a_url_that_cannot_be_opened_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        list_sources(CorpusSpec(paths=[url]))
    assert caught.value.errors[0].field == "corpus.paths"


def test_files_folders_and_globs_of_an_object_store_are_listed(s3_server: S3Server) -> None:
    from workloads.storage.storage import Storage

    storage = Storage.open(s3_server.url("sources"))
    for name in ("a.txt", "deep/b.jsonl"):
        storage.write_bytes(name, b"hello\n")
    folder = list_sources(CorpusSpec(paths=[s3_server.url("sources")]))
    assert [source.path for source in folder] == ["tests/sources/a.txt", "tests/sources/deep/b.jsonl"]
    assert [source.url for source in folder] == [s3_server.url("sources/a.txt"), s3_server.url("sources/deep/b.jsonl")]
    glob = list_sources(CorpusSpec(paths=[s3_server.url("sources/**/*.jsonl")]))
    assert glob == folder[1:]
    assert list_sources(CorpusSpec(paths=[s3_server.url("sources/a.txt")])) == folder[:1]
    with folder[1].open(2) as file:
        assert file.read() == b"llo\n"
