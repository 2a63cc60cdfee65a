"""Files anywhere: URLs of fsspec, drivers, retries, listings, ranges, caches."""

from pfit_ray.storage.drivers import configure, open_system, options, refuse_credentials
from pfit_ray.storage.files import (
    Entry,
    absolute,
    create_bytes,
    exists,
    fetch,
    is_local,
    join,
    link,
    list_entries,
    list_files,
    other_case,
    read_bytes,
    remove,
    remove_all,
    upload,
    write_bytes,
)
from pfit_ray.storage.retry import retries

__all__ = [
    "Entry", "absolute", "configure", "create_bytes", "exists", "fetch", "is_local", "join", "link", "list_entries",
    "list_files", "open_system", "options", "other_case", "read_bytes", "refuse_credentials", "remove", "remove_all",
    "retries", "upload", "write_bytes",
]  # fmt: skip
