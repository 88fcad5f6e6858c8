"""Places that requests may read: escapes by name, by link, by encoding and by swapped files."""

import os
import pickle
from pathlib import Path

import pytest
from pyarrow import fs as pafs

from workloads.craft.text.sources import open_filesystem
from workloads.shapes.teacher_files import named_shape
from workloads.spec.errors import InputError
from workloads.storage.places import EVERYWHERE, OutsideError, Places, confine, confined, root_of
from workloads.storage.storage import Storage

LOCAL = pafs.LocalFileSystem()


@pytest.fixture
def root(tmp_path):
    """A folder that may be read, a secret outside of it, and links from the one to the other."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, root / "sub", outside, tmp_path / "root-beside"):
        folder.mkdir()
    (root / "a.txt").write_text("inside")
    (outside / "secret.txt").write_text("secret")
    (tmp_path / "root-beside" / "b.txt").write_text("beside")
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / "folder").symlink_to(outside)
    (root / "good.txt").symlink_to(root / "a.txt")
    return root


@pytest.fixture
def places(root):
    return Places((str(root),))


@pytest.mark.parametrize("name", ["", "/a.txt", "/sub/../a.txt", "/*.txt", "/**/*.txt", "/not-there.txt", "/good.txt"])
def test_what_is_below_a_root_may_be_read(places, root, name):
    assert places.finding(f"{root}{name}", "f") is None


@pytest.mark.parametrize(
    "name",
    ["/..", "/../outside/secret.txt", "/sub/../../outside/secret.txt", "/link.txt", "/folder/secret.txt", "/folder",
     "/folder/*.txt", "/../outside/*", "-beside/b.txt", "/folder/../outside/secret.txt", "*/b.txt", "/a\0.txt"],
)  # fmt: skip
def test_what_leads_out_of_the_roots_is_refused_with_field_and_remedy(places, root, name):
    found = places.finding(f"{root}{name}", "corpus.paths.0")
    assert found.field == "corpus.paths.0"
    assert str(root) in found.remedy


@pytest.mark.parametrize("path", ["file:///{root}/a.txt", "file://{root}/%2e%2e/outside/secret.txt", "http://x/{root}",
                                  "https://169.254.169.254/latest", "hf://datasets/x", "~/a.txt", "a.txt", "//x/y",
                                  "s3://bucket/x", "FILE://{root}/a.txt"])  # fmt: skip
def test_other_ways_to_name_a_file_are_refused(places, root, path):
    assert places.finding(path.format(root=root), "f") is not None


@pytest.mark.parametrize("name", ["/folder", "/folder/secret.txt", "/link.txt"])
def test_a_link_that_leads_out_is_told_to_be_one(places, root, name):
    found = places.finding(f"{root}{name}", "teacher.model")
    assert "it is a link, or lies below one" in found.problem
    assert found.remedy == f"Put the files themselves below one of {root}."


def test_without_roots_nothing_is_read_and_the_remedy_names_the_setting(tmp_path):
    assert "STILLROOM_ALLOWED_ROOTS" in Places(()).finding(str(tmp_path), "f").remedy


@pytest.mark.parametrize("path", ["/etc/passwd", "s3://any/thing?endpoint_override=x", "gs://any", "file:///x", "x"])
def test_everywhere_is_everywhere(path):
    assert EVERYWHERE.finding(path, "f") is None


@pytest.mark.parametrize("places", [EVERYWHERE, Places(("s3://b",))])
@pytest.mark.parametrize("url", ["http://x/y", "https://x/y", "ftp://x", "hdfs://x/y", "s3://id:secret@b/x",
                                 "s3://b/x?secret_key=y", "s3://b/x?scheme=http&ACCESS_KEY=y"])  # fmt: skip
def test_other_schemes_and_credentials_are_refused_everywhere_and_not_repeated(places, url):
    found = places.finding(url, "f")
    assert found is not None
    assert "secret@" not in str(found)
    assert "=y" not in str(found)


BUCKET = Places(("s3://bucket/data", "gs://other", "s3://own/x?endpoint_override=minio:9000&scheme=http"))


@pytest.mark.parametrize("url", ["s3://bucket/data", "s3://bucket/data/", "s3://bucket/data/a/b.txt", "gs://other/x",
                                 "s3://bucket/data/*.txt", "s3://bucket/data/a*/[bc].txt",
                                 "s3://own/x/y?endpoint_override=minio:9000&scheme=http"])  # fmt: skip
def test_what_is_below_a_prefix_may_be_read(url):
    assert BUCKET.finding(url, "f") is None


@pytest.mark.parametrize(
    "url",
    ["s3://bucket", "s3://bucket/database", "s3://bucket/data*/x", "s3://buck*/data/x", "s3://bucket/data/../x",
     "s3://bucket/data/./x", "s3://bucket/data//x", "s3://bucket/data/%2e%2e/x", "s3://bucket/data/%2E%2E/x",
     "s3://x@bucket/data/y", "gs://bucket/data/x", "s3://other/x", "s3://bucket/data/x?endpoint_override=10.0.0.1",
     "s3://own/x/y", "s3://own/x/y?endpoint_override=10.0.0.1:80&scheme=http", "s3://bucket/data/x?", "s3://",
     "s3://bucket/data/x?region=eu&endpoint_override=127.0.0.1", "s3://bucket/data/x\n", "s3://bucket\\data/x",
     "s3:///bucket/data/x", "s3://bucket/data/x#y", "S3://bucket/data/x"],
)  # fmt: skip
def test_what_leads_out_of_a_prefix_or_to_another_server_is_refused(url):
    if url.endswith("?"):
        assert BUCKET.finding(url, "f") is None  # no option is none
    else:
        assert BUCKET.finding(url, "f") is not None


@pytest.mark.parametrize(("name", "fits"), [("google/bert", True), ("google/x/y", False), ("bert-base", False),
                                            ("../google/x", False), ("google/..", False), ("googl/e", False),
                                            ("google/" + "x" * 200, False), ("google/b?rt", False)])  # fmt: skip
def test_hub_ids_are_those_of_the_patterns(name, fits):
    assert (Places((), ("google/*",)).hub_finding(name, "teacher.model") is None) is fits


def test_everywhere_leaves_it_to_the_hub_what_its_ids_are():
    assert EVERYWHERE.hub_finding('any "thing"', "f") is None
    assert Places(()).hub_finding('any "thing"', "f") is not None


def test_a_file_is_opened_where_it_is_inside(places, root):
    for name in ("a.txt", "good.txt", "sub/../a.txt"):
        with places.open_file(LOCAL, f"{root}/{name}") as file:
            assert file.read() == b"inside"


@pytest.mark.parametrize("name", ["link.txt", "folder/secret.txt", "../outside/secret.txt"])
def test_a_file_that_a_link_leads_out_to_is_not_opened(places, root, name):
    with pytest.raises(OutsideError):
        places.open_file(LOCAL, f"{root}/{name}")


def test_a_file_that_is_swapped_between_check_and_opening_is_not_read(places, root, monkeypatch):
    victim, really_open = root / "a.txt", os.open

    def swap_then_open(path, *arguments):
        victim.unlink()
        victim.symlink_to(root.parent / "outside" / "secret.txt")
        return really_open(path, *arguments)

    assert places.finding(str(victim), "f") is None
    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(OutsideError):
        places.open_file(LOCAL, str(victim))


def test_what_was_looked_at_is_what_is_read_however_late_it_is_swapped(places, root, monkeypatch):
    victim, really_fstat = root / "a.txt", os.fstat

    def swap_after_opening(handle):
        victim.unlink()
        victim.symlink_to(root.parent / "outside" / "secret.txt")
        return really_fstat(handle)

    monkeypatch.setattr(os, "fstat", swap_after_opening)
    with places.open_file(LOCAL, str(victim)) as file:
        monkeypatch.undo()
        assert file.read() == b"inside"


def test_a_pipe_or_a_folder_in_place_of_a_file_holds_nobody_up(places, root):
    os.mkfifo(root / "pipe.txt")
    for name in ("pipe.txt", "sub"):
        with pytest.raises(OSError, match="not a regular file"):
            places.open_file(LOCAL, str(root / name))


def test_opening_leaves_no_handle_behind(places, root):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        places.open_file(LOCAL, str(root / "a.txt")).close()
        with pytest.raises(OutsideError):
            places.open_file(LOCAL, str(root / "link.txt"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_root_that_is_a_link_itself_is_followed(tmp_path, root):
    (tmp_path / "mount").symlink_to(root)
    assert Places((str(tmp_path / "mount"),)).finding(str(root / "a.txt"), "f") is None
    assert Places((str(root),)).finding(str(tmp_path / "mount" / "a.txt"), "f") is None


@pytest.mark.parametrize(
    "text", ["http://x", "s3://", "s3://b/../x", "s3://b/*", "s3://id:x@b", "file:///x", "gs://b/%2e"]
)
def test_what_can_be_no_root_is_refused_with_the_remedy(text):
    with pytest.raises(ValueError, match="Use a folder"):
        root_of(text)


def test_roots_are_kept_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of-somebody")
    assert [root_of(one) for one in ("x", "~/y", "/z", "s3://b/p?scheme=http")] == [
        f"{tmp_path}/x", "/home/of-somebody/y", "/z", "s3://b/p?scheme=http"
    ]  # fmt: skip


@pytest.fixture(params=["~/x", "~nobody-of-this-name/x"])
def homeless(request, monkeypatch):
    """A path below a home that there is not."""
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    return request.param


@pytest.mark.parametrize(
    ("read", "field"),
    [(Storage.open, "storage"), (named_shape, "teacher.model"), (open_filesystem, "corpus.paths")],
    ids=["storage", "teacher", "corpus"],
)
def test_a_home_that_there_is_not_is_told_with_the_remedy(homeless, read, field):
    with pytest.raises(InputError) as caught:
        read(homeless)
    (found,) = caught.value.errors
    assert (found.field, found.remedy) == (field, "Write the whole path.")
    assert homeless in found.problem


def test_a_root_below_a_home_that_there_is_not_is_told_with_the_remedy(homeless):
    with pytest.raises(ValueError, match=r"begins with ~.*\. Write the whole path\."):
        root_of(homeless)


def test_a_process_is_confined_as_a_whole(places):
    assert confined() == EVERYWHERE
    try:
        confine(places)
        assert confined() == pickle.loads(pickle.dumps(places))
        with pytest.raises(InputError):
            confined().require("/etc/passwd", "f")
    finally:
        confine(EVERYWHERE)
