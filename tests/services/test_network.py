"""Proxies and certificates of the environment, as every HTTP client of ours uses them."""

import subprocess

import certifi
import pytest

from services.client import ApiError, ServerUnreachableError
from services.jobs.ray_jobs import RayJobs, RayUnreachableError
from services.network import is_loopback, route_to
from tests.services.clients import Answer
from workloads.spec.errors import InputError

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
             "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUEST_METHOD")  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    """`environment(NAME=value)` sets variables; no others of proxies and certificates are there."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def give(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return give


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_loopback_is_asked_directly_whatever_the_environment_says(environment, host):
    environment(HTTP_PROXY="http://proxy:3128", ALL_PROXY="socks5://proxy:1080")
    assert route_to(f"http://{host}:8000").proxy is None
    assert is_loopback(host)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "http://far.org", True),
        ("intra.net", "http://a.intra.net:8000", True),
        (".intra.net", "http://a.intra.net", True),
        ("*.intra.net", "http://a.intra.net", True),
        ("intra.net:8000", "http://intra.net:8000", True),
        ("intra.net", "http://not-intra.net", False),
        (" 10.0.0.0/8 , x", "http://10.1.2.3:8000", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("fd00::/8", "http://[fd00::1]:8000", True),
        ("", "http://far.org", False),
    ],
)
def test_no_proxy_holds_names_endings_addresses_and_networks(environment, no_proxy, url, direct):
    environment(HTTP_PROXY="http://proxy:3128", NO_PROXY=no_proxy)
    assert (route_to(url).proxy is None) == direct


def test_a_proxy_is_named_without_its_password(environment):
    environment(https_proxy="user:secret@proxy:3128")
    route = route_to("https://far.org")
    assert route.proxy == "http://user:secret@proxy:3128"
    assert "http://proxy:3128 of https_proxy" in route.note and "add far.org to NO_PROXY" in route.note
    assert "secret" not in route.note


def test_a_kind_of_proxy_that_cannot_be_used_is_told_with_the_remedy(environment):
    environment(ALL_PROXY="socks5://proxy:1080")
    with pytest.raises(InputError, match=r"ALL_PROXY.*NO_PROXY"):
        route_to("http://far.org")


def test_the_client_asks_loopback_directly_and_others_through_the_proxy(drive, script, environment):
    server, proxy = script(Answer()), script(Answer())
    environment(HTTP_PROXY=proxy.url)
    assert drive(server.url, lambda client: client.latency_targets()) == []
    assert (len(server.requests), len(proxy.requests)) == (1, 0)
    assert drive("http://far.example", lambda client: client.latency_targets()) == []
    assert proxy.requests[0][1] == "http://far.example/v1/latency-targets"


def test_the_proxy_in_between_is_named_where_there_is_no_answer_or_another(drive, script, environment, unused_port):
    environment(HTTP_PROXY=f"http://127.0.0.1:{unused_port}")
    with pytest.raises(ServerUnreachableError, match=f"proxy http://127.0.0.1:{unused_port} of HTTP_PROXY"):
        drive("http://far.example", lambda client: client.ready(), patience=0)
    environment(HTTP_PROXY=script(Answer(403, b"<html>Forbidden by policy")).url)
    with pytest.raises(ApiError, match=r"Forbidden by policy.*HTTP_PROXY"):
        drive("http://far.example", lambda client: client.ready(), patience=0)


def test_the_jobs_client_of_ray_heeds_the_same(script, environment, unused_port):
    environment(HTTP_PROXY=f"http://127.0.0.1:{unused_port}")
    server = script(Answer(body=b'{"ray_version": "9"}'))
    with RayJobs(server.url, None) as ray:
        assert ray.version() == "9"
    with RayJobs("http://far.example:8265", None) as ray, pytest.raises(RayUnreachableError, match="HTTP_PROXY"):
        ray.version()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"\xff", b'{"status": "SPLENDID"}'])
def test_what_answers_but_is_no_ray_is_told_so(script, environment, body):
    server = script(Answer(body=body))
    with RayJobs(server.url, None) as ray:
        for ask in (ray.version, lambda: ray.get("x"), lambda: ray.log_tail("x")):
            with pytest.raises(RayUnreachableError):
                ask()


def test_certificates_of_the_environment_are_used(environment, tmp_path):
    certificate = tmp_path / "ca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ours", "-days", "2"]
    subprocess.run([*command, "-keyout", tmp_path / "key.pem", "-out", certificate], check=True, capture_output=True)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        environment(**{name: str(certificate)})
        names = route_to("https://far.org").options()["verify"].get_ca_certs()
        assert [one["subject"] for one in names] == [((("commonName", "ours"),),)]


def test_without_any_the_usual_certificates_are_used_and_wrong_ones_are_told(environment, tmp_path):
    found = route_to("https://far.org").options()["verify"]
    assert len(found.get_ca_certs()) > 50, certifi.where()
    for place in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        (tmp_path / "empty.pem").write_text("nothing")
        environment(SSL_CERT_FILE=str(place))
        with pytest.raises(InputError, match="SSL_CERT_FILE"):
            route_to("https://far.org").options()
    assert route_to("http://far.org").options()["verify"] is False  # plain HTTP looks at no certificate
