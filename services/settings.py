"""The service's settings: from the command line, from ``STILLROOM_*`` in the environment, or defaults."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.access.tenants import Quota
from services.network import is_loopback
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import FieldError, InputError
from workloads.storage.places import Places, root_of
from workloads.storage.storage import Storage

_SECRET = frozenset({"database", "ray_token"})
MIN_OBJECT_STORE_BYTES = 80 << 20  # Ray refuses less than 75 MiB


class Settings(BaseSettings):
    """The service's settings; :func:`load_settings` builds them with readable errors."""

    model_config = SettingsConfigDict(env_prefix="STILLROOM_", frozen=True, extra="forbid", env_ignore_empty=True)

    storage: str = Field("stillroom-data", min_length=1, description="A folder, s3://bucket/path or gs://bucket/path.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    insecure_local: bool = Field(
        False, description="Require no key; every user and program of this machine may then do everything."
    )
    open_metrics: bool = Field(False, description="Serve /metrics to everyone, without a key.")
    requests_per_second: float = Field(
        100.0, ge=0, le=1e6, description="Sustained limit of requests a second for one key; 0: no limit."
    )
    allowed_roots: list[str] | None = Field(
        None,
        description="Local folders and s3:// or gs:// prefixes that requests may read from, as JSON; "
        "default: none, or everything with insecure_local.",
    )
    allowed_hub: list[str] = Field(
        ["*"], description="Patterns of the hub ids that requests may name, such as google/*, as JSON."
    )
    state_folder: Path | None = Field(None, description="Local folder of the database, the lock and Ray's record.")

    database: SecretStr | None = Field(
        None, description="postgresql://user:password@host/database; default: an SQLite file in the state folder."
    )

    ray_address: str | None = Field(None, description="URL of an existing Ray's dashboard; default: an embedded Ray.")
    ray_token: SecretStr | None = Field(None, description="Token of the existing Ray.")
    ray_cpus: int | None = Field(None, ge=1, description="CPUs of the embedded Ray; default: all of the machine.")
    ray_object_store_bytes: int | None = Field(
        None,
        ge=MIN_OBJECT_STORE_BYTES,
        description="Size of the embedded Ray's object store; default: 20 % of RAM, at most 2 GB.",
    )

    ray_niceness: int = Field(
        0,
        ge=0,
        le=19,
        description="Niceness of the embedded Ray's workers; higher values let other processes go first.",
    )

    latency_targets: list[LatencyTarget] = Field(
        default_factory=list, description="Latency targets beside the built-in ones, as JSON."
    )

    max_attempts: int = Field(3, ge=1, le=100, description="Failed attempts after which a job has failed.")
    max_ray_losses: int = Field(
        10, ge=1, le=1000, description="Attempts lost with Ray, not counted as failures, after which a job has failed."
    )
    max_running: int = Field(2, ge=1, le=1000, description="Limit of jobs that run at the same time.")
    tenant_max_running: int | None = Field(
        None,
        ge=1,
        description="Limit of jobs that run at the same time, for tenants without a limit of their own.",
    )
    tenant_max_unfinished: int | None = Field(
        None, ge=1, description="Limit of jobs that wait or run, for tenants without one of their own."
    )
    tenant_max_tokens: int | None = Field(
        None, ge=0, description="Limit of tokens to train on, over all time, for tenants without one of their own."
    )
    tenant_max_stored_bytes: int | None = Field(
        None, ge=0, description="Limit of stored bytes of artefacts, for tenants without one of their own."
    )
    claim_seconds: float = Field(
        30.0, ge=1, le=3600, description="Seconds of a service's silence after which others take over its jobs."
    )
    poll_seconds: float = Field(0.5, ge=0.05, le=60, description="Seconds between two checks of a running job.")
    backoff_seconds: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="Seconds between the first and the second attempt; later waits are doubled.",
    )
    run_module: str = Field(
        "workloads.runs.job",
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
        description="Python module that a run starts.",
    )

    @field_validator("database")
    @classmethod
    def _database_is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme != "postgresql":
            raise ValueError("'database' is not a PostgreSQL URL. Use postgresql://user:password@host/database.")
        return value

    @field_validator("storage")
    @classmethod
    def _storage_has_no_password(cls, value: str) -> str:
        # The URL is an argument of every run, so process lists and Ray's job list show it.
        if ":" in urlsplit(value).netloc.rpartition("@")[0] or "secret_key=" in value:
            raise ValueError(
                "'storage' contains credentials, which process lists would show. "
                "Leave them out and give them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        return value

    @field_validator("host")
    @classmethod
    def _host_without_brackets(cls, value: str) -> str:
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value

    @field_validator("state_folder")
    @classmethod
    def _state_folder_in_a_home(cls, value: Path | None) -> Path | None:
        try:
            return None if value is None else value.expanduser()
        except RuntimeError:
            raise ValueError(
                "'state_folder' begins with ~, but this user has no home folder. Give an absolute path."
            ) from None

    @field_validator("allowed_roots")
    @classmethod
    def _roots_are_places(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else [root_of(one) for one in value]

    @field_validator("ray_address")
    @classmethod
    def _address_is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{value!r} is not the URL of a Ray dashboard. Use http://host:8265.")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _safe_and_possible(self) -> Self:
        if self.insecure_local and not is_loopback(self.host):
            raise ValueError(
                f"'host' {self.host} accepts other machines, but 'insecure_local' requires no keys. "
                "Use 127.0.0.1, or leave 'insecure_local' out and make keys with `stillroom keys create`."
            )
        if self.ray_address is None and self.ray_token is not None:
            raise ValueError("'ray_token' is for an existing Ray. Set 'ray_address' too, or leave both out.")
        if self.ray_address is not None and (self.ray_cpus or self.ray_object_store_bytes or self.ray_niceness):
            raise ValueError(
                "'ray_cpus', 'ray_object_store_bytes' and 'ray_niceness' are for the embedded Ray. "
                "Leave them out with 'ray_address'."
            )
        return self

    @property
    def places(self) -> Places:
        """The places that requests may read."""
        roots = self.allowed_roots if self.allowed_roots is not None or self.insecure_local else []
        return Places(None if roots is None else tuple(roots), tuple(self.allowed_hub))

    @property
    def quota(self) -> Quota:
        """Quota of tenants without limits of their own."""
        return Quota(
            self.tenant_max_running, self.tenant_max_unfinished, self.tenant_max_tokens, self.tenant_max_stored_bytes
        )

    def state_path(self, storage: Storage) -> Path:
        """The folder of the database, the lock and Ray's record; always on this machine."""
        if self.state_folder is not None:
            return self.state_folder.resolve()
        if storage.local:
            return Path(storage.root) / "service"
        digest = hashlib.sha256(storage.url.encode()).hexdigest()[:12]
        try:
            home = Path.home()
        except RuntimeError:
            raise InputError.of(
                "state_folder",
                "This user has no home folder, where the state of a remote storage is kept.",
                "Set STILLROOM_STATE_FOLDER to a local folder, or set HOME.",
            ) from None
        return home / ".local" / "state" / "stillroom" / digest


def load_settings(**given: Any) -> Settings:
    """Build the settings; for a value of None, the environment or the default applies.

    Raises:
        InputError: A value is invalid or unsafe.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise InputError([_finding(dict(item)) for item in error.errors()]) from None


def _finding(item: dict[str, Any]) -> FieldError:
    field = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "value_error":
        problem, _, remedy = str(item["ctx"]["error"]).partition(". ")
        return FieldError(field, f"{problem}.", remedy)
    description = Settings.model_fields[field].description if field in Settings.model_fields else None
    remedy = f"Expected: {description}" if description else "Remove it."
    given = "The given value" if field in _SECRET else repr(item.get("input"))
    return FieldError(field, f"{given} is not valid: {item['msg']}.", remedy)
