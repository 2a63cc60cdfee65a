"""Config of how buckets are reached, and how the workers get it; nothing of it changes a result."""

import os
import re
from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from pfit_ray.config.base import Section, option
from pfit_ray.config.credentials import is_secret_name


class StorageConfig(Section):
    """How the buckets of a run are reached: all of them, images, weights, tables and outputs."""

    endpoint_url: str | None = option(
        None, "Address of a store other than the cloud's own, such as http://minio:9000; null uses the cloud's."
    )
    region: str | None = option(None, "Region of the buckets (s3); null uses that of environment or profile.")
    profile: str | None = option(
        None, "Profile in the AWS credential files of each machine (s3); null uses environment or role."
    )
    anonymous: bool = option(False, "Send no credentials at all, for public buckets.")
    requester_pays: bool = option(False, "Agree to pay for requests to other people's buckets (s3, gs).")
    retries: int = option(
        5, "How often at most a request that fails for a passing reason is sent again.", unit="tries", ge=0, le=20
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
            if is_secret_name(str(name)) or str(name).lower() == "username":
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


OPTIONS_VARIABLE = "PFIT_RAY_STORAGE"
"""Environment variable with the config section `storage` as JSON; workers read it."""

_HANDED = re.compile(r"^(AWS|AZURE|GOOGLE)_|^STORAGE_EMULATOR_HOST$|^PFIT_RAY_STORAGE$")
_IDENTITY = re.compile(
    r"^(AWS)_(ACCESS_KEY|SECRET_|SESSION_TOKEN|SECURITY_TOKEN|PROFILE|DEFAULT_PROFILE|ROLE_|WEB_IDENTITY|CONTAINER_"
    r"|SHARED_CREDENTIALS|CONFIG_FILE|CREDENTIAL)|^(GOOGLE)_APPLICATION_CREDENTIALS$|^(AZURE)_"
)


def storage_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that storage drivers read."""
    return {name: value for name, value in environment.items() if _HANDED.match(name)}


class Handover:
    """Sets the driver's variables in a worker of a cluster; Ray calls it before the worker's first task.

    What a node has set itself stays. Variables that say who one is come all or none for each cloud: a node with an
    identity of its own keeps it. A variable that names a file is left out where the node has no such file.

    Args:
        variables: values by name; they are in no message and no `repr`.
    """

    __name__ = "set_storage_variables"

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)

    def __call__(self) -> None:
        """Set them."""
        own = {cloud for name in os.environ if (cloud := _cloud(name))}
        for name, value in self.variables.items():
            names_file = name.endswith("_FILE") or name == "GOOGLE_APPLICATION_CREDENTIALS"
            if name == OPTIONS_VARIABLE:
                os.environ[name] = value
            elif _cloud(name) not in own and not (names_file and not os.path.exists(value)):
                os.environ.setdefault(name, value)

    def __repr__(self) -> str:
        return f"Handover({', '.join(sorted(self.variables))})"


def _cloud(name: str) -> str | None:
    """The cloud that a variable gives an identity for."""
    found = _IDENTITY.match(name)
    return next(group for group in (found[1], found[3], found[4]) if group) if found else None
