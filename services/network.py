"""Proxies and certificates from the environment, for every HTTP client of this project.

Loopback addresses are always reached directly. ``NO_PROXY`` holds names, suffixes, addresses and
networks (``10.0.0.0/8``).
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from workloads.spec.errors import InputError

_PROXY_SCHEMES = frozenset({"http", "https"})
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Route:
    """The route to a server.

    Attributes:
        url: The server.
        proxy: URL of the proxy; None for a direct connection.
        variable: The environment variable that names the proxy.
    """

    url: str
    proxy: str | None = None
    variable: str | None = None

    @property
    def note(self) -> str:
        """Sentence that names the proxy, without its password; empty without a proxy."""
        if self.proxy is None:
            return ""
        parts = urlsplit(self.proxy)
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return (
            f" The request went through the proxy {shown} of {self.variable}; "
            f"to reach the server directly, add {urlsplit(self.url).hostname} to NO_PROXY."
        )

    def options(self) -> dict[str, Any]:
        """Arguments for a client of httpx.

        Raises:
            InputError: The certificates of the environment cannot be read.
        """
        schemes = {urlsplit(self.url).scheme, urlsplit(self.proxy or "").scheme}
        # Plain HTTP uses no certificates, and loading them costs tens of milliseconds.
        verify: ssl.SSLContext | bool = _certificates() if "https" in schemes else False
        return {"trust_env": False, "proxy": self.proxy, "verify": verify}


def route_to(url: str) -> Route:
    """Find the route to a server by ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

    Raises:
        InputError: The kind of the proxy is not supported.
    """
    parts = urlsplit(url)
    proxies: dict[str, str] = getproxies_environment()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), None)
    if (
        kind is None
        or not parts.hostname
        or is_loopback(parts.hostname)
        or _is_exempt(parts.hostname, proxies.get("no", ""))
    ):
        return Route(url)
    proxy, variable = proxies[kind], _variable(f"{kind}_proxy")
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in _PROXY_SCHEMES or not urlsplit(proxy).hostname:
        raise InputError.of(
            variable,
            f"Proxies of the kind {urlsplit(proxy).scheme}:// are not supported, so {url} cannot be reached.",
            f"Give an http:// or https:// proxy, or add {parts.hostname} to NO_PROXY.",
        )
    return Route(url, proxy, variable)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    name = host.lower().strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _variable(name: str) -> str:
    """The variable's name as set in the environment; lower case wins, as in curl and Python."""
    return name if os.environ.get(name) else name.upper()


def _is_exempt(host: str, no_proxy: str) -> bool:
    return any(_matches(host.lower(), entry.strip().lower().strip("[]")) for entry in no_proxy.split(","))


def _matches(host: str, entry: str) -> bool:
    """Whether an entry of ``NO_PROXY`` covers a host: all hosts, a network, an address, a name or a suffix."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        name = re.sub(r":\d+$", "", entry).removeprefix("*").lstrip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))


def _certificates() -> ssl.SSLContext:
    """The certificates that the environment names, or those that come with httpx."""
    import certifi

    variable = next((name for name in _CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    place = Path(os.environ[variable] if variable else certifi.where())
    try:
        if place.is_dir():
            return ssl.create_default_context(capath=str(place))
        return ssl.create_default_context(cafile=str(place))
    except (OSError, ssl.SSLError) as error:
        raise InputError.of(
            variable or "certificates",
            f"The certificates in {place} cannot be read: {error}.",
            "Set it to a file or folder of certificates in PEM form, or unset it.",
        ) from None
