import pytest

from services.service import Service
from services.settings import load_settings
from workloads.errors import InputError


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


def test_a_storage_on_a_device_without_room_is_refused_at_the_start():
    with pytest.raises(InputError, match="cannot be written"):
        Service(load_settings(storage="/proc/stillroom"))
