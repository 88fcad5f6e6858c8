"""Helpers of the tests of the clients: servers that answer by a script, and one driver for both clients."""

import asyncio
import inspect
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from services.client import AsyncStillroomClient, StillroomClient

TARGETS = '{"latency_targets": []}'


@dataclass
class Answer:
    """A scripted answer to one request; a body shorter than ``length`` is cut off."""

    status: int = 200
    body: bytes = TARGETS.encode()
    headers: dict = field(default_factory=dict)
    length: int | None = None
    hang_up: bool = False


@dataclass
class Scripted:
    """A server that sends the answers in order, repeats the last, and records the requests."""

    answers: list
    requests: list = field(default_factory=list)
    url: str = ""


@contextmanager
def scripting():
    """Yield a function that starts a server that answers by a script."""
    running = []

    def start(*answers):
        found = Scripted(list(answers))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found.requests.append((self.command, self.path, dict(self.headers), body))
                answer = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
                if callable(answer):
                    answer = answer(self)
                if answer.hang_up:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(answer.length or len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = answer.length is not None

            do_POST = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        found.url = f"http://127.0.0.1:{server.server_port}"
        return found

    try:
        yield start
    finally:
        for server in running:
            server.shutdown()
            server.server_close()


class Blocking:
    """Drives the synchronous client."""

    kind = StillroomClient

    def __call__(self, url, work, **options):
        with StillroomClient(url, **options) as client:
            found = work(client)
            return list(found) if inspect.isgenerator(found) else found


class Awaiting:
    """Drives the asynchronous client through the same work."""

    kind = AsyncStillroomClient

    def __call__(self, url, work, **options):
        async def run():
            async with AsyncStillroomClient(url, **options) as client:
                found = work(client)
                return [item async for item in found] if inspect.isasyncgen(found) else await found

        return asyncio.run(run())


PASSED_ON = ("Last-Event-ID", "Range", "If-Range")
PASSED_BACK = ("Content-Type", "Content-Range", "ETag")


def through(target, change):
    """Pass requests to the real server, and change its answers by ``change``."""

    def answer(handler):
        headers = {name: handler.headers[name] for name in PASSED_ON if name in handler.headers}
        got = httpx.get(f"{target}{handler.path}", headers=headers)
        return change(
            Answer(
                got.status_code, got.content, {name: got.headers[name] for name in PASSED_BACK if name in got.headers}
            )
        )

    return answer
