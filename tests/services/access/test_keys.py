"""Keys: the stored digests, the checks of texts, and the cache of accepted keys."""

import hashlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.access import keys as keys_module
from services.access.caller import Scope
from services.access.keys import KeyChecks, KeyStore, UnknownKeyError
from services.jobs.tables import ApiKeyRow
from workloads.spec.errors import InputError


@pytest.fixture
def keys(engine):
    return KeyStore(engine)


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


def _row(engine):
    with Session(engine) as session:
        return session.scalars(select(ApiKeyRow)).one()


def test_a_key_opens_what_it_was_made_for(keys):
    key, text = keys.create("ours", [Scope.READ], name="ci")
    assert re.fullmatch(r"srk_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", text)
    found = keys.check(text)
    assert (found.id, found.tenant, found.name, found.scopes) == (key.id, "ours", "ci", frozenset({Scope.READ}))


def test_the_database_holds_a_digest_and_not_the_secret(keys, engine):
    text = keys.create("ours", [Scope.READ])[1]
    row = _row(engine)
    secret = text.split("_", 2)[2]
    assert row.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in str({column.name: getattr(row, column.name) for column in ApiKeyRow.__table__.columns})


CHANGES = {
    "the last sign": lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
    "one sign more": lambda text: f"{text}A",
    "a line's end": lambda text: f"{text}\n",
    "the mark": lambda text: text.replace("srk_", "srk-"),
    "the case": lambda text: text.swapcase(),
    "an id that is not there": lambda _: "srk_00000000_" + 43 * "A",
    "nothing": lambda _: "",
    "signs of other kinds": lambda _: "\0ü",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_text_that_is_nearly_a_key_opens_nothing(keys, change):
    text = keys.create("ours", [Scope.READ])[1]
    assert keys.check(change(text)) is None
    assert keys.check(text) is not None


def test_a_revoked_key_opens_nothing_and_stays_in_the_list(keys):
    key, text = keys.create("ours", [Scope.READ])
    other = keys.create("theirs", [Scope.READ])[1]
    revoked = keys.revoke(key.id)
    assert revoked.revoked_at == keys.revoke(key.id).revoked_at is not None
    assert keys.check(text) is None
    assert keys.check(other) is not None
    assert [one.state for one in keys.all()] == ["revoked", "active"]
    assert [one.id for one in keys.all("ours")] == [key.id]


def test_revoking_a_key_that_is_not_there_is_told(keys):
    with pytest.raises(UnknownKeyError):
        keys.revoke("00000000")


def test_a_key_expires(keys):
    past, future = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (-1, 60))
    expired, lasting = (keys.create("ours", [Scope.READ], expires_at=at)[1] for at in (past, future))
    assert keys.check(expired) is None
    assert keys.check(lasting).expires_at == future
    assert [one.state for one in keys.all()] == ["expired", "active"]


def test_the_last_use_is_written_once_a_minute(keys, engine):
    text = keys.create("ours", [Scope.READ])[1]
    keys.check(text)
    first = _row(engine).last_used_at
    assert datetime.now(UTC) - first < timedelta(seconds=10)
    keys.check(text)
    assert _row(engine).last_used_at == first
    with Session(engine) as session, session.begin():
        session.execute(update(ApiKeyRow).values(last_used_at=first - timedelta(seconds=61)))
    keys.check(text)
    assert _row(engine).last_used_at >= first


def test_secrets_are_compared_in_constant_time_even_without_such_an_id(keys, monkeypatch):
    compared = []
    monkeypatch.setattr(keys_module.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or False)
    text = keys.create("ours", [Scope.READ])[1]
    for tried in (text, "srk_00000000_" + 43 * "A"):
        assert keys.check(tried) is None
    assert [len(digest) for pair in compared for digest in pair] == [64] * 4


@pytest.mark.parametrize("tenant", ["", "a b", "a/b", "-a", "x" * 65, "ü"])
def test_a_tenants_name_is_plain(keys, tenant):
    with pytest.raises(InputError, match="not a valid tenant name"):
        keys.create(tenant, [Scope.READ])


def test_an_answer_is_kept_for_a_moment_and_a_revocation_holds_after_it(keys):
    clock = Clock()
    checks = KeyChecks(keys, keep_seconds=3, clock=clock)
    key, text = keys.create("ours", [Scope.READ])
    assert checks.remembered(text) is None
    assert checks.check(text).tenant == "ours"
    keys.revoke(key.id)
    assert checks.remembered(text).key_id == key.id
    clock.at = 3
    assert checks.remembered(text) is None
    assert checks.was_accepted(text)
    assert checks.check(text) is None
    assert not checks.was_accepted(text)


def test_a_key_is_not_remembered_beyond_its_end(keys):
    clock = Clock()
    checks = KeyChecks(keys, keep_seconds=3, clock=clock)
    text = keys.create("ours", [Scope.READ], expires_at=datetime.now(UTC) + timedelta(seconds=1))[1]
    assert checks.check(text) is not None
    clock.at = 1.0
    assert checks.remembered(text) is None


def test_what_is_remembered_is_bounded_and_holds_no_key(keys, monkeypatch):
    monkeypatch.setattr(keys_module, "_KEPT", 3)
    checks = KeyChecks(keys)
    texts = [keys.create("ours", [Scope.READ])[1] for _ in range(4)]
    for text in texts:
        checks.check(text)
        assert text not in repr(vars(checks))
    assert [checks.remembered(text) is not None for text in texts] == [False, True, True, True]


def test_keys_that_are_made_up_push_none_out_of_memory(keys, monkeypatch):
    monkeypatch.setattr(keys_module, "_KEPT", 3)
    checks = KeyChecks(keys)
    text = keys.create("ours", [Scope.READ])[1]
    checks.check(text)
    for number in range(5):
        assert checks.check(f"srk_0000000{number}_{43 * 'A'}") is None
    assert checks.remembered(text).tenant == "ours"
