"""PyTorch's weight files, read without ever running the code that a pickle can carry."""

import io
import re
import zipfile
from typing import Any

import torch
from torch import Tensor

MAGICS = (b"PK\x03\x04", b"\x80\x02")
"""First bytes of the files that torch.save writes: a zip archive, or (before PyTorch 1.6) a bare pickle."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Names under which training programs keep a state dict."""


def load_torch_file(data: bytes) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, of a .pth or .pt file.

    The file holds a mapping of names to tensors, or that mapping as its only entry under one of `WRAPPERS`.

    Args:
        data: the file's content.

    Raises:
        ValueError: in one clause, when the file is damaged or holds anything but tensors.
    """
    if data.startswith(MAGICS[0]):
        _check_archive(data)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(_refusal(error)) from error
    if isinstance(content, dict) and len(content) == 1:
        ((name, inner),) = content.items()
        content = inner if name in WRAPPERS and isinstance(inner, dict) else content
    if not isinstance(content, dict):
        raise ValueError(f"the PyTorch file holds a {type(content).__name__}, not a flat mapping of names to tensors")
    _check_flat(content)
    return {name: tensor.detach() for name, tensor in content.items()}


def _check_archive(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            if "data.pkl" not in names:
                raise ValueError("this is a zip archive, but not one that PyTorch wrote")
            if "constants.pkl" in names:
                raise ValueError(
                    "this is a TorchScript program, which is refused; save its tensors alone: "
                    "torch.save(module.state_dict(), 'weights.pth')"
                )
            broken = archive.testzip()  # torch.load does not compare checksums
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise ValueError(f"the PyTorch file is damaged or cut off ({error})") from error
    if broken is not None:
        raise ValueError(f"the PyTorch file is damaged: the checksum of its part {broken!r} is wrong")


def _refusal(error: Exception) -> str:
    pickled = re.search(r"GLOBAL ([\w.]+)", str(error))
    if pickled is None:
        return "the PyTorch file is damaged or holds Python objects besides tensors, which is refused"
    return (
        f"the PyTorch file pickles {pickled[1]} besides tensors, which is refused, because it could run code; "
        "where it was made, save its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
    )


def _check_flat(content: dict[Any, Any]) -> None:
    other = next(
        (name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))), None
    )
    if other is None:
        return
    wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), dict)), None)
    chosen = "its tensors" if wrapper is None else f"checkpoint[{wrapper!r}]"
    raise ValueError(
        "the PyTorch file must hold one flat mapping of names to tensors, but its entry "
        f"{other!r} is of type {type(content[other]).__name__}; save {chosen} alone"
    )
