import httpx
import pytest

from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from workloads.spec.errors import InputError


def test_a_second_service_on_the_same_storage_is_refused_until_the_first_has_gone(service):
    with pytest.raises(InputError) as caught:
        Service(service.settings)
    assert "Another stillroom" in str(caught.value)
    assert "--storage" in caught.value.errors[0].remedy
    service.close()
    Service(service.settings).close()


def test_a_storage_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(InputError) as caught:
        Service(load_settings(storage=str(file / "storage")))
    assert caught.value.errors[0].field == "storage"


def test_jobs_are_kept_in_postgresql_where_the_settings_say_so(postgres, tmp_path, make_request):
    settings = load_settings(
        storage=str(tmp_path), ray_address="http://127.0.0.1:9", database=postgres.format("postgres")
    )
    service = Service(settings)
    with serving(service) as client:
        job = client.submit(make_request(), key="k")
        assert client.submit(make_request(), key="k").id == job.id
        assert "stillroom_jobs" in httpx.get(f"{client.server}/metrics").text
    service.close()
    again = Service(settings)
    assert again.store.get(job.id).request == job.request
    again.close()
    assert not (tmp_path / "service" / "jobs.sqlite").exists()


def test_a_postgresql_that_does_not_answer_is_told_at_the_start_without_its_password(tmp_path, unused_port):
    url = f"postgresql://someone:secret@127.0.0.1:{unused_port}/jobs"
    with pytest.raises(InputError) as caught:
        Service(load_settings(storage=str(tmp_path), ray_address="http://127.0.0.1:9", database=url))
    assert caught.value.errors[0].field == "database"
    assert "secret" not in str(caught.value)
    Service(load_settings(storage=str(tmp_path), ray_address="http://127.0.0.1:9")).close()  # the lock was given back


def test_a_storage_on_a_device_without_room_is_refused_at_the_start():
    with pytest.raises(InputError, match="cannot be written"):
        Service(load_settings(storage="/proc/stillroom"))
