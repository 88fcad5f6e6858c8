"""Serving of the page's files."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

import services

FOLDER = Path(services.__file__).parent / "dashboard"


@pytest.fixture
def http(client):
    with httpx.Client(base_url=client.server) as http:
        yield http


def test_the_page_may_run_nothing_but_its_own_files(http):
    answer = http.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200 and "<title>stillroom</title>" in answer.text
    assert "default-src 'self'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/static/styles/base.css", "/static/views/job.js"])
def test_a_file_that_the_browser_has_is_not_sent_again(http, path):
    first = http.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "default-src 'self'" in again.headers["content-security-policy"]
    other = http.get(path, headers={"If-None-Match": '"another"'})
    assert other.content == first.content
    assert http.head(path).headers["etag"] == first.headers["etag"]


def test_only_the_page_s_own_files_can_be_had(http):
    for path in (
        "/static/nothing.js",
        "/static/../api/page.py",
        "/static/%2e%2e/api/page.py",
        "/static/views",
        "/static/",
    ):
        assert http.get(path).status_code == 404, path


def test_every_file_that_a_file_names_is_there_and_none_comes_from_elsewhere(http):
    files = [file for file in FOLDER.rglob("*") if file.suffix in {".js", ".html", ".css"}]
    assert len(files) > 20
    for file in files:
        text = file.read_text()
        assert not re.search(
            r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|insertAdjacentHTML|document\.write", text
        ), file
        for name in re.findall(r'from "(\.[^"]+)"', text):
            assert (file.parent / name).is_file(), (file, name)
        for name in re.findall(r'"/static/([^"]+\.\w+)"', text):
            assert http.get(f"/static/{name}").status_code == 200, (file, name)


def test_an_installed_package_has_the_page(tmp_path):
    project, source = FOLDER.parent.parent, tmp_path / "source"
    for folder in ("services", "workloads", "cluster"):
        shutil.copytree(project / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / file, source)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("services/dashboard/")}
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert packed == {f"services/dashboard/{file.relative_to(FOLDER).as_posix()}" for file in files}
