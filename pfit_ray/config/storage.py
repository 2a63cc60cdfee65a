"""Config of how buckets are reached; nothing of it changes a result."""

from typing import Any

from pydantic import model_validator

from pfit_ray.config.base import Section, option

_SECRETS = {
    "key", "secret", "token", "password", "username", "access_key", "access_key_id", "secret_key", "session_token",
    "secret_access_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "account_key",
    "sas_token", "connection_string", "credential", "credentials", "client_secret", "api_key",
}  # fmt: skip


class StorageConfig(Section):
    """How the buckets of a run are reached: all of them, images, weights, tables and outputs."""

    endpoint_url: str | None = option(
        None, "Address of a store other than the cloud's own, such as http://minio:9000; null takes the cloud's."
    )
    region: str | None = option(None, "Region of the buckets (s3); null takes that of environment or profile.")
    profile: str | None = option(
        None, "Profile in the AWS credential files of each machine (s3); null takes environment or role."
    )
    anonymous: bool = option(False, "Send no credentials at all, for public buckets.")
    requester_pays: bool = option(False, "Agree to pay for requests to other people's buckets (s3, gs).")
    retries: int = option(
        5, "A request that fails for a passing reason is sent again so often at most.", unit="tries", ge=0, le=20
    )
    backoff_seconds: float = option(
        0.5,
        "Wait before the first repetition; it doubles each time, up to 30 s, and half of it is drawn at random.",
        unit="seconds",
        ge=0.0,
        le=30.0,
    )
    timeout_seconds: float = option(
        60.0, "A storage that does not connect or sends nothing for so long has timed out.", unit="seconds", gt=0.0
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_secrets(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if str(name).lower() in _SECRETS:
                raise ValueError(
                    f"{name!r} is refused, because the config is stored with the results; give credentials by "
                    "environment variables, a role of the machine, or the name of a profile in storage.profile"
                )
        return given

    @model_validator(mode="after")
    def _check(self) -> "StorageConfig":
        if self.endpoint_url and not self.endpoint_url.startswith(("http://", "https://")):
            raise ValueError("endpoint_url must begin with http:// or https://, such as http://minio:9000")
        return self
