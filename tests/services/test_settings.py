from pathlib import Path

import pytest

from services.settings import load_settings
from workloads.spec.errors import InputError
from workloads.storage.storage import Storage


@pytest.mark.parametrize(
    ("given", "field", "remedy"),
    [
        ({"host": "0.0.0.0", "insecure_local": True}, "settings", "stillroom keys create"),
        ({"storage": "s3://id:secret@bucket/x"}, "storage", "AWS_SECRET_ACCESS_KEY"),
        ({"ray_token": "t"}, "settings", "ray_address"),
        ({"ray_address": "somewhere:8265"}, "ray_address", "http://host:8265"),
        ({"ray_address": "http://ray:8265", "ray_cpus": 2}, "settings", "Leave them out"),
        ({"database": "mysql://u:secret@host/d"}, "database", "postgresql://user"),
        ({"port": 70000}, "port", "Port to listen on"),
        ({"max_attempts": 0}, "max_attempts", "attempts"),
        ({"run_module": "os; rm"}, "run_module", "Python module"),
        ({"ray_object_store_bytes": 1000}, "ray_object_store_bytes", "object store"),
        ({"storge": "x"}, "storge", "Remove it"),
    ],
)
def test_impossible_or_unsafe_settings_are_refused_with_the_remedy(given, field, remedy):
    with pytest.raises(InputError) as caught:
        load_settings(**given)
    assert caught.value.errors[0].field == field
    assert remedy in caught.value.errors[0].remedy


def test_the_command_line_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("STILLROOM_PORT", "1234")
    monkeypatch.setenv("STILLROOM_MAX_ATTEMPTS", "5")
    settings = load_settings(port=4321, host=None)
    assert (settings.port, settings.max_attempts, settings.host) == (4321, 5, "127.0.0.1")


def test_the_token_does_not_show_in_what_is_printed():
    settings = load_settings(ray_address="http://ray:8265", ray_token="very-secret")
    assert "very-secret" not in repr(settings)


def test_state_lies_in_a_local_storage_and_else_in_a_folder_of_its_own(tmp_path):
    local = Storage.open(str(tmp_path))
    assert load_settings().state_path(local) == tmp_path / "service"
    buckets = [Storage.open(f"s3://{name}/x?region=eu-west-1") for name in ("a", "b")]
    places = {load_settings().state_path(bucket) for bucket in buckets}
    assert len(places) == 2
    assert all(place.parent == Path.home() / ".local/state/stillroom" for place in places)
