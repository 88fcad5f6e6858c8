"""Take the README's pictures of the page, from a storage in which a compression has succeeded.

``python docs/screenshots.py STORAGE`` needs Chromium and the extra ``dev``; it writes to ``docs/pictures``.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

PICTURES = Path(__file__).parent / "pictures"
PORT = 8123
NO_RAY = "http://127.0.0.1:9"  # nothing is run for a picture


@contextmanager
def _serving(storage: Path) -> Iterator[httpx.Client]:
    program = Path(sys.executable).with_name("stillroom")
    command = [program, "serve", "--insecure-local", "--storage", storage, "--port", str(PORT), "--ray-address", NO_RAY]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", transport=httpx.HTTPTransport(retries=8)) as client:
            while process.poll() is None and client.get("/healthz").status_code != 200:
                time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait()


def _take(page: Page, name: str, first: str, last: str) -> None:
    """Save what lies between the tops and bottoms of two elements."""
    page.evaluate("scrollTo(0, 0)")
    top, bottom = page.locator(first).bounding_box(), page.locator(last).bounding_box()
    assert top is not None and bottom is not None
    width = page.evaluate("document.documentElement.clientWidth")
    clip = {
        "x": 0,
        "y": max(0, top["y"] - 12),
        "width": width,
        "height": bottom["y"] + bottom["height"] - top["y"] + 24,
    }
    image = Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True)))
    image.convert("RGB").save(PICTURES / name, optimize=True)


def main(storage: Path) -> None:
    """Take them all."""
    PICTURES.mkdir(exist_ok=True)
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with _serving(storage) as client, sync_playwright() as driver:
        job = client.get("/v1/compressions", params={"status": "succeeded"}).json()["compressions"][0]["id"]
        browser = driver.chromium.launch(executable_path=program)

        def opened(width: int, scheme: str) -> Page:
            page = browser.new_page(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,  # type: ignore[arg-type]
                device_scale_factor=1.25,
            )
            page.goto(f"{client.base_url}/#/compressions/{job}")
            page.wait_for_selector("#best:not(:empty)")
            page.wait_for_selector(".curve svg")
            page.get_by_label("At most").fill("8000000")
            page.get_by_label("At most").blur()
            page.wait_for_load_state("networkidle")
            return page

        desktop = opened(1100, "light")
        _take(desktop, "page-progress.png", "header", "section:has(> .steps)")
        _take(desktop, "page-candidates.png", "section:has(.cloud)", "section:has(.cloud)")
        _take(opened(390, "dark"), "page-phone.png", "section:has(.cloud)", "section:has(.cloud)")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
