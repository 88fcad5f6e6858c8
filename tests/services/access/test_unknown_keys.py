"""Attempts with unknown keys."""

import httpx
import pytest

from services.access.limits import RateLimit


def _me(locked, key):
    return httpx.get(f"{locked.url}/v1/me", headers={"Authorization": f"Bearer {key}"}, timeout=60)


@pytest.fixture
def asked(locked, monkeypatch):
    """Keys that are looked up in the database."""
    locked.service.refusals = RateLimit(0.5)  # two at once, then one in two seconds
    found, check = [], locked.service.keys.check
    monkeypatch.setattr(locked.service.keys, "check", lambda text: found.append(text) or check(text))
    return found


def test_unknown_keys_are_soon_refused_without_the_database(locked, asked):
    answers = [_me(locked, f"srk_0000000{n}_{43 * 'A'}") for n in range(8)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [answer.status_code for answer in answers[:1]] == [401]
    assert len(refused) > 4
    assert refused[0].json()["code"] == "rate_limited"
    assert int(refused[0].headers["retry-after"]) >= 1
    assert len(asked) == len(answers) - len(refused)


def test_keys_that_were_good_are_asked_for_again_where_others_try_unknown_ones(locked, asked):
    key = locked.key()
    assert _me(locked, key).status_code == 200
    for n in range(4):
        _me(locked, f"nonsense {n}")
    locked.service.key_checks._clock = lambda: 10**9  # the cached check has expired
    assert _me(locked, key).status_code == 200
    assert asked.count(key) == 2


def test_who_sends_no_key_is_told_how_to(locked):
    detail = httpx.get(f"{locked.url}/v1/me").json()["detail"]
    assert detail == "This needs a key. Send it in the header 'Authorization', after the word 'Bearer'."
