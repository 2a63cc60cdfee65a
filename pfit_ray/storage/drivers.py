"""How this process reaches storage: the options of the drivers of s3://, gs:// and az://."""

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import fsspec.core
from pydantic import ValidationError

from pfit_ray.config.credentials import carries_credentials, redacted
from pfit_ray.config.storage import OPTIONS_VARIABLE, StorageConfig
from pfit_ray.errors import UserError
from pfit_ray.storage.retry import is_passing, is_passing_answer, parsed_answer, settle, wait_before

S3 = ("s3", "s3a")
GCS = ("gs", "gcs")
AZURE = ("az", "abfs", "abfss", "adl")


_EXTRAS = {**dict.fromkeys(S3, "s3"), **dict.fromkeys(GCS, "gcs"), **dict.fromkeys(AZURE, "azure")}

_options: StorageConfig | None = None


def configure(given: StorageConfig) -> None:
    """Decide how this process reaches buckets from now on."""
    global _options
    _options = given


def reach(given: StorageConfig) -> None:
    """Reach buckets as a run's config says, unless the variable PFIT_RAY_STORAGE of this process says otherwise.

    Whoever reads a run calls it first: another run may have been opened since, or this is another process.
    """
    if OPTIONS_VARIABLE not in os.environ:
        configure(given)


def options() -> StorageConfig:
    """How this process reaches buckets: as configured, or else as PFIT_RAY_STORAGE says in JSON.

    Raises:
        UserError: when the variable is not a valid section.
    """
    if _options is None:
        text = os.environ.get(OPTIONS_VARIABLE)
        try:
            configure(StorageConfig.model_validate_json(text) if text else StorageConfig())
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise UserError(f"the environment variable {OPTIONS_VARIABLE}: {field} {first['msg']}") from None
    assert _options is not None
    return _options


def open_system(url: str) -> tuple[Any, str]:
    """The fsspec driver of a URL that is not local, and the path in it.

    Listings are not cached, as other processes write too. A process keeps one driver for each kind of URL.

    Raises:
        UserError: when the URL carries credentials, cannot be opened, or its driver is not installed.
    """
    refuse_credentials(url)
    protocols = {link.partition("://")[0] for link in url.split("::") if "://" in link}
    try:
        arguments = {name: found for name in protocols if (found := driver_options(name, options()))}
        if url.partition("://")[0] in GCS and "::" not in url:
            return _open_gcs(url, *arguments.values())
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **arguments)
        if protocols & {*S3}:
            _repeat_nothing(system)
    except ImportError as error:
        protocol = url.partition("://")[0].rpartition("::")[2]
        extra = _EXTRAS.get(protocol)
        remedy = f'pip install "pfit-ray[{extra}]"' if extra else f"install what it asks for: {error}"
        raise UserError(f"{url}: the driver for {protocol}:// is not installed; {remedy}") from error
    except ValueError as error:
        raise UserError(f"{url}: this URL cannot be opened: {redacted(str(error))}") from error
    return system, path


def _open_gcs(url: str, arguments: dict[str, Any]) -> tuple[Any, str]:
    """Open with the driver of gcsfs that never asks for the kind of bucket, even if gcsfs was imported before."""
    from gcsfs.core import GCSFileSystem

    system = GCSFileSystem(use_listings_cache=False, **arguments)
    return system, system._strip_protocol(url)


def protocols_of(system: Any) -> set[str]:
    """The protocols of an fsspec file system."""
    return {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)


def _repeat_nothing(system: Any) -> None:
    """Stop one driver of S3, not its whole class, from repeating uncounted what its session has repeated."""
    while system is not None:
        if "s3" in protocols_of(system):
            system.retries = 1
        system = getattr(system, "fs", None)


def refuse_credentials(url: str) -> None:
    """Raise a UserError where a URL carries credentials; it does not repeat them."""
    if carries_credentials(url):
        raise UserError(
            f"{redacted(url)}: this URL contains credentials, which would be stored with the results; use "
            "environment variables, a role of the machine, or storage.profile"
        )


def driver_options(protocol: str, options: StorageConfig) -> dict[str, Any]:
    """Arguments of the fsspec driver of a protocol.

    The same options give the same arguments within a process, so that fsspec keeps one driver with its connections.
    """
    if protocol in S3:
        return _s3(options)
    if protocol in GCS:
        return _gcs(options)
    if protocol in AZURE:
        return _azure(options)
    return {}


def _s3(options: StorageConfig) -> dict[str, Any]:
    given: dict[str, Any] = {
        "anon": options.anonymous,
        "requester_pays": options.requester_pays,
        "session": _s3_session(os.getpid(), options),
        "max_concurrency": 1,  # with more, each read asks for the size first: one request more per image
        "config_kwargs": {
            "connect_timeout": options.timeout_seconds,
            "read_timeout": options.timeout_seconds,
            "retries": {"mode": "standard", "total_max_attempts": 1},
        },
    }
    if options.endpoint_url:
        given["endpoint_url"] = options.endpoint_url
    if options.region:
        given["client_kwargs"] = {"region_name": options.region}
    return given


@cache
def _s3_session(pid: int, options: StorageConfig) -> Any:
    """The process's botocore session, which repeats each request, those of multipart writes and listings too."""
    from aiobotocore.session import AioSession

    session = AioSession(profile=options.profile)
    session.register("needs-retry.s3", _s3_decision(options))
    return session


def _s3_decision(options: StorageConfig) -> Callable[..., float | None]:
    def decide(response: Any, attempts: int, caught_exception: Exception | None, **_: Any) -> float | None:
        if caught_exception is not None:
            passing = is_passing(caught_exception)
        else:
            passing = is_passing_answer(*parsed_answer(response[1]))
        if passing and attempts <= options.retries:
            return wait_before(attempts, options)
        if caught_exception is not None:
            settle(caught_exception)
        return None

    return decide


def _gcs(options: StorageConfig) -> dict[str, Any]:
    _import_gcsfs()
    given: dict[str, Any] = {"requester_pays": options.requester_pays, "requests_timeout": options.timeout_seconds}
    if options.anonymous:
        given["token"] = "anon"
    if options.endpoint_url:
        given["endpoint_url"] = options.endpoint_url
    return given


@cache
def _import_gcsfs() -> None:
    """Import gcsfs so that it does not ask by gRPC for the kind of bucket.

    The question needs one more permission, and never ends on other endpoints. gcsfs decides once, on its import.
    """
    name = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
    given = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        importlib.import_module("gcsfs")
    finally:
        if given is None:
            del os.environ[name]


@contextmanager
def quiet_drivers() -> Iterator[None]:
    """Silence drivers where we say it ourselves: gcsfs prints a traceback for each refused request."""
    logger = logging.getLogger("gcsfs")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _azure(options: StorageConfig) -> dict[str, Any]:
    seconds = max(1, round(options.timeout_seconds))
    # By default the driver stays anonymous where no key is given, and never asks for the machine's role.
    given: dict[str, Any] = {
        "anon": options.anonymous, "connection_timeout": seconds, "read_timeout": seconds
    }  # fmt: skip
    if options.endpoint_url:
        given["account_host"] = urlsplit(options.endpoint_url).netloc
    return given
