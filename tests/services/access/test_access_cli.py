"""``stillroom keys``, ``stillroom tenants``, and what ``stillroom serve`` says of keys."""

import json

import pytest
import structlog
from typer.testing import CliRunner

from services.access.keys import KeyStore
from services.cli.main import app
from services.cli.tables import when
from services.jobs.database import open_database
from services.service import Service
from services.settings import load_settings

runner = CliRunner()


@pytest.fixture
def storage(tmp_path):
    yield tmp_path / "storage"
    structlog.reset_defaults()  # the verbs log to the runner's streams


@pytest.fixture
def run(storage):
    def run(*arguments):
        return runner.invoke(app, [*arguments, "--storage", str(storage)])

    return run


def _keys(storage):
    return KeyStore(open_database(storage / "service" / "jobs.sqlite"))


def test_a_key_is_printed_once_and_alone_on_standard_output(run, storage):
    made = run("keys", "create", "--tenant", "ours", "--expires", "90d", "--name", "ci")
    key = made.stdout.removesuffix("\n")
    assert "\n" not in key
    found = _keys(storage).check(key)
    assert (found.tenant, found.name, sorted(found.scopes)) == ("ours", "ci", ["read", "submit"])
    assert (found.expires_at - found.created_at).days in {89, 90}
    assert key not in made.stderr
    listed = run("keys", "list")
    assert found.id in listed.stdout
    assert key not in listed.stdout + listed.stderr
    assert when(found.expires_at) in listed.stdout and "+00:00" not in listed.stdout


def test_keys_as_json(run):
    made = json.loads(run("keys", "create", "--scope", "admin", "--json").stdout)
    assert made["scopes"] == ["admin"]
    listed = json.loads(run("keys", "list", "--json").stdout)
    assert listed == [{name: value for name, value in made.items() if name != "key"}]
    revoked = json.loads(run("keys", "revoke", made["id"], "--json").stdout)
    assert revoked["state"] == "revoked"
    assert json.loads(run("keys", "list", "--tenant", "other", "--json").stdout) == []


def test_a_key_is_revoked_beside_a_service_that_runs(run, storage):
    service = Service(load_settings(storage=str(storage), ray_address="http://127.0.0.1:9", insecure_local=False))
    key = run("keys", "create").stdout.strip()
    assert service.keys.check(key) is not None
    assert run("keys", "revoke", key.split("_")[1]).exit_code == 0
    assert service.keys.check(key) is None
    service.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("keys", "revoke", "00000000"), "stillroom keys list"),
        (("keys", "create", "--expires", "soon"), "such as 90d"),
        (("keys", "create", "--tenant", "a b"), "not a valid tenant name"),
        (("tenants", "set", "a b"), "not a valid tenant name"),
        (("tenants", "set", "ours", "--max-tokens", "-1"), "whole number"),
        (("tenants", "set", "ours", "--max-running", "0"), "whole number"),
    ],
)
def test_what_is_wrong_is_told_with_the_remedy(run, arguments, told):
    run("keys", "create")
    done = run(*arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_limits_are_set_taken_away_and_listed_with_what_is_used(run):
    run("tenants", "set", "ours", "--max-tokens", "1000", "--max-running", "2")
    changed = run("tenants", "set", "ours", "--max-tokens", "none", "--max-unfinished", "0", "--json")
    (one,) = json.loads(changed.stdout)
    assert (one["name"], one["max_running"], one["max_tokens"], one["max_unfinished"]) == ("ours", 2, None, 0)
    assert one["usage"] == {"running": 0, "unfinished": 0, "tokens": 0, "stored_bytes": 0}
    assert "ours\t0\t2\t" in run("tenants", "list").stdout
    run("tenants", "set", "ours", "--max-stored-bytes", "5000000000")
    assert run("tenants", "list").stdout.endswith("\t0\t5000000000\n")


def test_serving_without_keys_is_refused_where_other_machines_get_in(run):
    done = run("serve", "--insecure-local", "--host", "0.0.0.0")
    assert done.exit_code == 2
    assert "insecure_local" in done.stderr
    assert "stillroom keys create" in done.stderr


def test_a_service_that_nobody_has_a_key_of_says_how_to_make_the_first(run, storage, monkeypatch):
    monkeypatch.setenv("STILLROOM_INSECURE_LOCAL", "false")
    monkeypatch.setenv("STILLROOM_RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setattr("services.cli.serve._run", lambda *_: None)
    monkeypatch.setattr("services.cli.serve._leave_threads", lambda: None)  # it would end the tests' process
    first = run("serve", "--port", "0")
    assert f"stillroom keys create --storage {storage}" in first.stderr
    run("keys", "create")
    assert "keys create" not in run("serve", "--port", "0").stderr
    monkeypatch.setenv("STILLROOM_INSECURE_LOCAL", "true")
    assert "keys create" not in run("serve", "--port", "0").stderr
