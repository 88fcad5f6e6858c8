"""Fixtures of the service's tests: a request, a storage, a service, and a real server in front of it."""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
import structlog
import uvicorn
from sqlalchemy import Engine

from services.api.app import create_app
from services.client import StillroomClient
from services.jobs.batches import BatchStore
from services.jobs.database import migrate, open_database
from services.jobs.records import AttemptEnd, Job, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import JobStore
from services.jobs.work import WorkStore
from services.service import Service
from services.settings import load_settings
from tests import postgres as postgres_server
from tests.machine import missing
from tests.services.clients import Awaiting, Blocking, Scripted, scripting
from tests.services.searched import finished
from tests.services.verbs import Done, on_server, run_here
from workloads.documents.job_folder import (
    EventDocument,
    InfeasibleDocument,
    JobFolder,
    ResultDocument,
    StepDocument,
    StudentDocument,
)

HERE = Path(__file__).parent
STUDENT_BYTES = bytes(range(256)) * 9000
ARCHITECTURE = {
    "layers": 1, "hidden_size": 8, "intermediate_size": 16, "heads": 2, "head_width": 4, "source_layers": [0],
}  # fmt: skip
RUN_MODULE = "scripted_run"  # tests/services/scripted_run.py, found by PYTHONPATH


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition; fail at the time limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds} s"
        time.sleep(0.02)


@contextmanager
def serving(service: Service, port: int = 0) -> Iterator[StillroomClient]:
    """Serve an open service by a real uvicorn, by default on a free port."""
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, 10, "starting uvicorn")
        port = server.servers[0].sockets[0].getsockname()[1]
        with StillroomClient(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session", autouse=True)
def _no_keys_asked_for() -> Iterator[None]:
    """Turn keys off, also in services that tests start as processes; the tests of keys turn them on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_INSECURE_LOCAL", "true")
        yield


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> Iterator[None]:
    """Log errors as the service does; structlog's default formats all local variables, which takes seconds."""
    structlog.reset_defaults()
    *others, _ = structlog.get_config()["processors"]
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, console])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL; see tests/postgres.py."""
    programs = postgres_server.binaries()
    if programs is None:
        missing("PostgreSQL")
    with postgres_server.serve(programs) as url:
        yield url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that names several ``DATABASES`` on each of them; all others on SQLite alone."""
    kinds = getattr(metafunc.module, "DATABASES", None)
    if kinds is not None and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty database: a file of SQLite, or a URL of PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return tmp_path / "jobs.sqlite"
    url = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return url.format(name)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "speech.txt"
    file.write_text("Four score and seven years ago.\n")
    return file


@pytest.fixture
def engine(database: Path | str) -> Iterator[Engine]:
    """The empty database, opened and migrated."""
    engine = open_database(database)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> JobStore:
    return JobStore(engine)


@pytest.fixture
def batches(engine: Engine) -> BatchStore:
    return BatchStore(engine)


@pytest.fixture
def work(engine: Engine) -> WorkStore:
    return WorkStore(engine)


@pytest.fixture(scope="session")
def make_request(text: Path) -> Callable[..., dict]:
    def make(**labels: object) -> dict:
        return {
            "teacher": {"model": "someone/some-hub-model"},
            "corpus": {"paths": [str(text)]},
            "budgets": [{"name": "edge", "max_params": 8_000_000}],
            "labels": {name: str(value) for name, value in labels.items()},
        }

    return make


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Service without Ray: it stores jobs and starts none."""
    service = Service(load_settings(storage=str(tmp_path / "storage"), ray_address="http://127.0.0.1:9"))
    service.start()
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> Iterator[StillroomClient]:
    with serving(service) as client:
        yield client


@pytest.fixture
def stillroom(client: StillroomClient) -> Callable[..., Done]:
    """`stillroom(*arguments)` runs a verb on the test's server, in this process."""
    return on_server(run_here, client.server)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def http_client(client: StillroomClient) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=client.server) as http_client:
        yield http_client


@pytest.fixture
def finished_job(service: Service, make_request: Callable[..., dict]) -> Job:
    """A job that has succeeded with one student at its second attempt."""
    job = service.store.create(NewJob(make_request()))
    folder = JobFolder(service.storage, job.id)
    service.work.begin_attempt(job.id)
    folder.write_events(1, [EventDocument(sequence=n, time="t", type="note", message=f"1-{n}") for n in (1, 2)])
    service.work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.LOST, "It died.", JobStatus.QUEUED))
    service.work.begin_attempt(job.id)
    folder.write_events(2, [EventDocument(sequence=1, time="t", type="note", message="2-1")])
    files = f"artifacts/student/abc/builds/{job.id}-2"
    service.storage.write_bytes(f"{files}/config.json", b"{}")
    service.storage.write_bytes(f"{files}/sub/model.safetensors", STUDENT_BYTES)
    service.storage.write_bytes(f"{files}-beside/secret.txt", b"another's")
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture=ARCHITECTURE, params=10, flops=20,
        sequence_length=128, heldout_loss=0.5, files=files,
    )  # fmt: skip
    result = ResultDocument(
        status="succeeded", students=[student], infeasible=[InfeasibleDocument(budget="none", nearest=[])]
    )
    steps = [StepDocument(name="train", status="succeeded", done=5, total=5, unit="steps")]
    return service.work.end_attempt(
        job.id, 2, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=steps)
    )


@pytest.fixture
def script() -> Iterator[Callable[..., Scripted]]:
    """`script(*answers)` starts a server; see tests/services/clients.py."""
    with scripting() as start:
        yield start


@pytest.fixture(params=[Blocking, Awaiting], ids=["blocking", "awaiting"])
def drive(request: pytest.FixtureRequest) -> Blocking | Awaiting:
    """`drive(url, work)` does work with a client; the test runs once for each kind."""
    return request.param()


@pytest.fixture
def searched_job(service, make_request):
    """A finished compression, with the scores of all its candidates."""
    return finished(service, make_request())
