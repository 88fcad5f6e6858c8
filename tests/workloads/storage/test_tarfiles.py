"""Archives are unpacked with extraction filters, also by a Python whose own ``tarfile`` has none."""

import io
import sys
import tarfile as standard

import pytest

from workloads.storage.tarfiles import tarfile


def _archive(name):
    made = io.BytesIO()
    with standard.open(fileobj=made, mode="w") as archive:
        info = standard.TarInfo(name)
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))
    made.seek(0)
    return made


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="each Python 3.12 has extraction filters")
def test_the_standard_extraction_of_python_3_11_0_is_not_needed(monkeypatch, tmp_path):
    def extract_all(self, path=".", members=None, *, numeric_owner=False):
        raise AssertionError("the standard library's extraction was called")

    monkeypatch.setattr(standard.TarFile, "extractall", extract_all)
    with tarfile.open(fileobj=_archive("a/config.json"), mode="r:") as archive:
        archive.extractall(tmp_path, filter="data")
    assert (tmp_path / "a" / "config.json").read_bytes() == b"{}"


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path):
    with tarfile.open(fileobj=_archive("../evil"), mode="r:") as archive, pytest.raises(tarfile.TarError):
        archive.extractall(tmp_path / "to", filter="data")
    assert not (tmp_path / "evil").exists()
