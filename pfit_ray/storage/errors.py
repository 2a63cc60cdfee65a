"""Failures of storage: what a driver's exception means, and one sentence that says it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pfit_ray.config.credentials import redacted
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage.drivers import options
from pfit_ray.storage.retry import http_answer, is_passing, timed_out

_NO_IDENTITY = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "SSOError",
    "TokenRetrievalError", "DefaultCredentialsError", "RefreshError", "ClientAuthenticationError",
}  # fmt: skip
"""Names of errors of botocore, google-auth and azure-core, or of their base classes."""
_BAD_IDENTITY = {
    "AuthenticationFailed", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "400",
}  # fmt: skip
"""Error codes; S3 answers a HEAD request with an expired token by a bare 400."""
_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT}
_FULL_CODES = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what you can mend into a UserError: refused access, a full disk, a storage that does not work."""
    try:
        yield
    except (NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{url}: a part of this path is a file, not a folder; choose another place") from error
    except UserError:
        raise
    except Exception as error:
        if _lacks_identity(error):
            raise UserError(_identity_sentence(url, error)) from error
        if _is_full(error):
            raise UserError(
                f"{url}: the storage is full ({_text(error)}); make room, and the same command continues from what is "
                "finished"
            ) from error
        if _refused(error):
            raise UserError(
                f"{url}: the storage refuses access; check its permissions and your credentials ({_text(error)})"
            ) from error
        if is_passing(error):
            raise UserError(
                f"{url}: the storage does not work, tried {options().retries + 1} times ({_text(error)}); the same "
                "command continues from what is finished"
            ) from error
        raise


def row_error(url: str, error: Exception) -> RowError:
    """The reason and message of a row whose file could not be read.

    Raises:
        UserError: when credentials are absent or no longer valid, which is no row's fault.
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RowError("missing", f"{url} does not exist")
    if isinstance(error, IsADirectoryError):
        return RowError("missing", f"{url} is a folder, not a file")
    if _lacks_identity(error):
        raise UserError(_identity_sentence(url, error)) from error
    if _refused(error):
        return RowError("denied", f"the storage refused access to {url}: {_text(error)}")
    if timed_out(error):
        return RowError("timeout", f"{url} did not come in time: {_text(error)}")
    return RowError("io_error", f"{url} could not be read: {_text(error)}")


def _lacks_identity(error: Exception) -> bool:
    """Whether credentials are absent, or no longer accepted wherever they are used."""
    if any(base.__name__ in _NO_IDENTITY for base in type(error).__mro__):
        return True
    return any(status == 401 or code in _BAD_IDENTITY for status, code in answers(error))


def _identity_sentence(url: str, error: Exception) -> str:
    return (
        f"{url}: the storage refuses access; check its permissions and your credentials ({_text(error)}); "
        "the same command continues from what is finished"
    )


def _refused(error: Exception) -> bool:
    if isinstance(error, PermissionError) or _gcs_refusal(error):
        return True
    return any(status == 403 for status, _ in answers(error))


def _gcs_refusal(error: Exception) -> bool:
    """Whether gcsfs got the answer 403: its check of answers raises an OSError without a number only then."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    origin = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return type(error) is OSError and error.errno is None and origin == "gcsfs.retry"


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL_ERRNO:
        return True
    return any(status == 507 or code in _FULL_CODES for status, code in answers(error))


def answers(error: Exception) -> Iterator[tuple[int | None, str | None]]:
    """HTTP status and error code of an exception, and of what caused it."""
    yield http_answer(error)
    if error.__cause__ is not None:
        yield http_answer(error.__cause__)


def _text(error: Exception) -> str:
    """Class and message of an error in one line, without secrets."""
    return redacted(f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": "))
