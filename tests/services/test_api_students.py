"""Students over HTTP: whole, file by file, and in parts."""

import http.client
import io
import tarfile

import pytest

from tests.services.conftest import STUDENT_BYTES


def test_a_student_comes_whole_as_an_archive_and_file_by_file(client, http_client, finished_job, tmp_path):
    detail = client.student(finished_job.id, "stu_1")
    assert {file.path: file.bytes for file in detail.contents} == {
        "config.json": 2,
        "sub/model.safetensors": len(STUDENT_BYTES),
    }
    answer = http_client.get(detail.archive)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert sorted(archive.getnames()) == ["stu_1/config.json", "stu_1/sub/model.safetensors"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    folder = client.download(finished_job.id, "stu_1", tmp_path / "students")
    assert (folder / "sub/model.safetensors").read_bytes() == STUDENT_BYTES
    one = http_client.get(f"/v1/compressions/{finished_job.id}/students/stu_1/files/sub/model.safetensors")
    assert one.content == STUDENT_BYTES


@pytest.fixture(params=["files/sub/model.safetensors", "archive"])
def whole(request, http_client, finished_job):
    """A path that supports ranges, and its whole content."""
    path = f"/v1/compressions/{finished_job.id}/students/stu_1/{request.param}"
    answer = http_client.get(path)
    assert answer.headers["accept-ranges"] == "bytes"
    return path, answer


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [("0-0", 0, 1), ("100-", 100, None), ("511-1600", 511, 1601), ("-700", -700, None), ("5-99999999999", 5, None)],
)
def test_a_part_is_sent_as_it_is_asked_for(http_client, whole, asked, begin, end):
    path, all_of_it = whole
    part = http_client.get(path, headers={"Range": f"bytes={asked}", "If-Range": all_of_it.headers["etag"]})
    assert (part.status_code, part.content) == (206, all_of_it.content[begin:end])
    size = len(all_of_it.content)
    first = begin % size
    assert part.headers["content-range"] == f"bytes {first}-{first + len(part.content) - 1}/{size}"
    assert part.headers["content-length"] == str(len(part.content))
    assert part.headers["etag"] == all_of_it.headers["etag"]


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=-", "bytes=0-1,5-6", "bytes=x-", "lines=0-1", "bytes=0-"])
def test_what_is_no_range_gets_all(http_client, whole, asked):
    path, all_of_it = whole
    answer = http_client.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, all_of_it.content)


def test_a_range_of_what_has_changed_gets_all(http_client, service, finished_job, whole):
    path, all_of_it = whole
    asked = {"Range": "bytes=100-"}
    for tag in ('"another"', f"W/{all_of_it.headers['etag']}", "Sat, 21 Nov 2026 10:00:00 GMT"):
        assert http_client.get(path, headers=asked | {"If-Range": tag}).content == all_of_it.content
    files = finished_job.result.students[0].files
    service.storage.write_bytes(f"{files}/sub/model.safetensors", b"y" + STUDENT_BYTES[1:])
    again = http_client.get(path, headers=asked | {"If-Range": all_of_it.headers["etag"]})
    assert (again.status_code, len(again.content)) == (200, len(all_of_it.content))
    assert again.headers["etag"] != all_of_it.headers["etag"]


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(http_client, whole, asked):
    path, all_of_it = whole
    refused = http_client.get(path, headers={"Range": asked})
    assert (refused.status_code, refused.json()["code"]) == (416, "range_not_satisfiable")
    assert refused.headers["content-range"] == f"bytes */{len(all_of_it.content)}"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "..%2f..%2f..%2fservice/jobs.sqlite",
        "%2e%2e/%2e%2e/service.lock",
        "sub/../../x",
        "%2fetc/passwd",
        "/etc/passwd",
        "config.json%00",
        "sub",
        "",
        ".",
    ],
)
def test_no_path_leads_out_of_a_students_folder(client, finished_job, path):
    # http.client sends the path as it is; httpx would tidy it first.
    host, port = client.server.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", f"/v1/compressions/{finished_job.id}/students/stu_1/files/{path}")
    assert connection.getresponse().status == 404
    connection.close()
