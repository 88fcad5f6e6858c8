"""Folders and globs: every file once, within places and bounds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from workloads.spec.errors import InputError
from workloads.storage.globs import Glob, parse_glob
from workloads.storage.places import EVERYWHERE, OutsideError, Places
from workloads.storage.walking import Bounds, Listing, files_of_folder, files_of_glob, kind_of


def below(root: Path, pattern: str | None = None, places: Places = EVERYWHERE) -> list[str]:
    listing = look(root, pattern, places)
    assert listing.whole
    return [os.path.relpath(file.path, root) for file in listing.files]


def look(root: Path, pattern: str | None, places: Places = EVERYWHERE, bounds: Bounds | None = None) -> Listing:
    bounds = bounds or Bounds(1000)
    if pattern is None:
        return files_of_folder(str(root), places, bounds)
    return files_of_glob(parse_glob(f"{root}/{pattern}", "f"), places, bounds)


@pytest.fixture
def loops(tmp_path: Path) -> Path:
    """Links up, across, to themselves and in a circle."""
    (tmp_path / "x/deep").mkdir(parents=True)
    for name in ("a.txt", "x/b.txt", "x/deep/c.txt"):
        (tmp_path / name).write_text(name)
    links = {
        "latest": ".", "x/up": "..", "y": "x", "0-first": "x/deep", "0.txt": "a.txt", "x/deep/top": str(tmp_path),
        "A": "y/up/y",
    }  # fmt: skip
    for name, to in links.items():
        (tmp_path / name).symlink_to(to)
    return tmp_path


def test_a_tree_with_links_up_and_across_gives_every_file_once_by_its_own_path(loops: Path) -> None:
    own = ["a.txt", "x/b.txt", "x/deep/c.txt"]
    assert below(loops) == own
    assert below(loops, "**/*.txt") == own
    assert below(loops, "**") == own
    assert below(loops, "y/*.txt") == ["y/b.txt"]
    assert below(loops, "0*.txt") == ["0.txt"]


def test_a_folder_behind_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/a.txt").write_text("a")
    (tmp_path / "near").mkdir()
    (tmp_path / "near/link").symlink_to(tmp_path / "far")
    assert below(tmp_path / "near") == ["link/a.txt"]


def test_links_to_nothing_and_pipes_are_found_as_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "circle.txt").symlink_to("circle.txt")
    assert {file.size for file in look(tmp_path, None).files} == {None}
    assert len(below(tmp_path, "*.txt")) == 3


def test_names_of_any_bytes_are_found(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 \n.txt"
    Path(os.fsdecode(name)).write_text("a")
    (found,) = look(tmp_path, "*.txt").files
    assert os.fsencode(found.path) == name


def test_a_file_that_goes_while_it_is_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    lstat = Path.lstat

    def vanish(self: Path) -> os.stat_result:
        (tmp_path / "b.txt").unlink(missing_ok=True)
        return lstat(self)

    monkeypatch.setattr(Path, "lstat", vanish)
    assert below(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/shut").mkdir(parents=True)
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if folder.endswith("shut"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="shut"):
        look(tmp_path, None)


def test_a_tree_as_deep_as_a_path_may_be_is_walked(tmp_path: Path) -> None:
    here = tmp_path
    for _ in range(900):
        here = here / "d"
    here.mkdir(parents=True)
    (here / "a.txt").write_text("a")
    listing = look(tmp_path, "**/*.txt", bounds=Bounds(10_000))
    assert listing.whole and len(listing.files) == 1


@pytest.mark.parametrize("pattern", ["**/*.txt", "*/*/*/*", "**/**/**/*", "*"])
def test_work_ends_at_the_bound(loops: Path, pattern: str) -> None:
    for number in range(50):
        (loops / f"{number}.md").touch()
    assert not look(loops, pattern, bounds=Bounds(20)).whole
    assert look(loops, pattern, bounds=Bounds(2000)).whole
    assert not look(loops, "**/*", bounds=Bounds(2000, seconds=0.0)).whole


def test_a_pattern_that_could_be_tried_in_many_ways_is_quick(tmp_path: Path) -> None:
    (tmp_path / ("a" * 200)).write_text("a")
    started = time.process_time()
    assert below(tmp_path, "*a" * 60 + "b") == []
    assert parse_glob("/r/" + "**/*/" * 60 + "x", "f").fits(["a"] * 100 + ["b"]) is False
    assert time.process_time() - started < 1


@pytest.mark.parametrize("pattern", ["**.txt", "a**/x", "*/../x", "*/" + "../*/" * 9, "*/./x", "[a]/../../etc/passwd"])
def test_patterns_that_are_not_followed_are_refused_by_their_form(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError) as caught:
        look(tmp_path, pattern)
    assert caught.value.errors[0].field == "f"


@pytest.mark.parametrize(
    ("pattern", "names", "fits"),
    [
        ("b/*.txt", "a.txt", True), ("b/*.txt", "c/a.txt", False), ("b/**/*.txt", "a.txt", True),
        ("b/**/*.txt", "c/d/a.txt", True), ("b/**", "c/d/a.txt", True), ("b/*/**", "a.txt", False),
        ("b/*/**", "c/a.txt", True), ("b/[!c].txt", "a.txt", True), ("b/[z-a].txt", "a.txt", False),
        ("b/*/x/a.txt", "c/x/a.txt", True), ("b/*/x/a.txt", "c/y/a.txt", False), ("b/*c/**/x", "bc/x", True),
        ("b/*", "c/d", False), ("b/?", "é", True), ("b*/x", "b1/x", True),
    ],
)  # fmt: skip
def test_a_glob_means_the_same_in_an_object_store(tmp_path: Path, pattern: str, names: str, fits: bool) -> None:
    glob = parse_glob(pattern, "f")
    assert isinstance(glob, Glob)
    assert glob.fits(names.split("/")) is fits
    file = tmp_path / glob.base / names
    file.parent.mkdir(parents=True)
    file.write_text("a")
    assert bool(below(tmp_path, pattern)) is fits


def test_links_out_of_the_places_are_refused_alike_whatever_is_there(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "there.txt").write_text("secret")
    (root / "sub/out").symlink_to(outside)
    places = Places((str(root),))
    told = set()
    for pattern in ("s*/out/there.txt", "s*/out/not-there.txt", "s*/out/*", "**/there.txt"):
        with pytest.raises(OutsideError) as caught:
            look(root, pattern, places)
        told.add(str(caught.value))
    assert told == {f"{root}/sub/out leads out of where requests may read"}
    (root / "sub/file.txt").symlink_to(outside / "there.txt")
    (root / "sub/gone.txt").symlink_to(outside / "not-there.txt")
    for pattern in ("sub/f*.txt", "sub/g*.txt"):
        with pytest.raises(OutsideError, match="leads out"):
            look(root, pattern, places)
    (root / "a.txt").write_text("a")
    assert below(root, "*.txt", places) == ["a.txt"]


@pytest.mark.parametrize("path", ["a" * 300, "a\0b", "/".join(["a" * 200] * 40), "\ud800"])
def test_a_path_that_nothing_can_have_has_no_kind(path: str) -> None:
    assert kind_of(path) is None
