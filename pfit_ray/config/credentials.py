"""What is secret about storage: found in URLs, kept out of messages, and handed to the workers of a cluster."""

import os
import re
from collections.abc import Mapping

OPTIONS_VARIABLE = "PFIT_RAY_STORAGE"
"""Environment variable with the config section `storage` as JSON; workers read it."""

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")
_QUERY = re.compile(r"([?&][\w.-]+)=[^&\s\"']+")
_SECRET_NAME = re.compile(
    r"^.(sig$|.*(secret|password|signature|token|credential|access_?key|api_?key))", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(r"^(AWS|AZURE|GOOGLE)_\w*(KEY|SECRET|TOKEN|CONNECTION_STRING)(?!\w*FILE)")

_HANDED = re.compile(r"^(AWS|AZURE|GOOGLE)_|^STORAGE_EMULATOR_HOST$|^PFIT_RAY_STORAGE$")
_IDENTITY = re.compile(
    r"^(AWS)_(ACCESS_KEY|SECRET_|SESSION_TOKEN|SECURITY_TOKEN|PROFILE|DEFAULT_PROFILE|ROLE_|WEB_IDENTITY|CONTAINER_"
    r"|SHARED_CREDENTIALS|CONFIG_FILE|CREDENTIAL)|^(GOOGLE)_APPLICATION_CREDENTIALS$|^(AZURE)_"
)


def carries_credentials(url: str) -> bool:
    """Whether a URL holds a password (`scheme://user:password@`) or a secret in its query."""
    return "://" in url and _without_url_secrets(url) != url


def redacted(text: str) -> str:
    """A text without the passwords and secrets of its URLs and without the values of secret variables."""
    text = _without_url_secrets(text)
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.match(name) and len(value) >= 4:
            text = text.replace(value, "***")
    return text


def _without_url_secrets(text: str) -> str:
    text = _QUERY.sub(lambda found: f"{found[1]}=***" if _SECRET_NAME.match(found[1]) else found[0], text)
    return _PASSWORD.sub("***@", text)


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
