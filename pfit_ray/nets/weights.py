"""Weight files: read without ever running code, checked against the network that they fill, and written."""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pfit_ray import storage
from pfit_ray.storage.cache import weights_file

_WRAPPED = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and modules around a network put before the name of each of its tensors."""

MAGICS = (b"PK\x03\x04", b"\x80\x02")
"""First bytes of the files that torch.save writes: a zip archive, or (before PyTorch 1.6) a bare pickle."""

ONNX_MAGIC = b"\x08"
"""First byte of an ONNX file: the key of its format's version."""

WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "student", "online", "online_network"),
    *("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "model_ema_state_dict"),
    *("teacher", "teacher_model", "teacher_state_dict", "target", "target_network", "momentum"),
)
"""Names under which training programs keep a state dict."""
_DEPTH = 2


def save_network(network: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """A network's state dict as the bytes of a safetensors file.

    Args:
        network: any network of this package.
        metadata: strings to keep with the tensors; the kind of network and its backbone's name are added.
    """
    own = {"network": type(network).__name__, "backbone": str(getattr(network, "backbone_name", ""))}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return _sort_header(safetensors.torch.save(tensors, metadata={**own, **metadata}))


def _sort_header(data: bytes) -> bytes:
    # safetensors writes metadata in random order; equal networks shall give equal files.
    header, end = _read_header(data)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def _read_header(data: bytes) -> tuple[dict[str, Any], int]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), end


def read_state(url: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`load_state` of a path or URL; `#NAME` at its end chooses an entry.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: as `load_state`.
    """
    place, entry = weights_file(url)
    return load_state(storage.read_bytes(place), entry)


def load_state(
    data: bytes | str | os.PathLike[str], entry: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name (on the CPU) and metadata of a weight file; code in the file is never run.

    The prefixes `module.`, `_orig_mod.` and `model.` are taken off where every name has them.

    Args:
        data: a local path, or the content, of a .safetensors file, of a .pth / .pt file, see `load_torch_file`, or of
            an .onnx file, see `load_onnx`.
        entry: which state dict of a .pth file is meant, where it has several.

    Raises:
        ValueError: when the file is missing, damaged, of another format, or holds other things than tensors.
    """
    if not isinstance(data, bytes):
        what = f"weights {os.fspath(data)!r}"
        try:
            data = Path(data).read_bytes()
        except OSError as error:
            raise ValueError(f"{what} cannot be read: {error.strerror}") from error
        try:
            return load_state(data, entry)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
    metadata: dict[str, str] = {}
    if data[8:9] == b"{":
        state, metadata = _load_safetensors(data)
    elif data.startswith(MAGICS):
        state = load_torch_file(data, entry)
    elif data.startswith(ONNX_MAGIC):
        from pfit_ray.nets.onnx_file import load_onnx  # it knows the networks, which know this file

        state, metadata = load_onnx(data)
    else:
        raise ValueError("this is neither a safetensors file nor a PyTorch state dict")
    while prefix := next((one for one in _WRAPPED if state and all(name.startswith(one) for name in state)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state, metadata


def _load_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"the safetensors file is damaged ({error})") from error
    header, _ = _read_header(data)
    return tensors, dict(header.get("__metadata__") or {})


def load_into(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Give a network all of its tensors, exactly.

    Args:
        network: the network to fill.
        state: its tensors by name.
        what: names the weights in messages, for example their path.

    Raises:
        ValueError: as `fit_state`.
    """
    network.load_state_dict(fit_state(network, state, what))


def fit_state(network: nn.Module, state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The tensors of a network, after checking that names and shapes are exactly its own.

    timm's own ImageNet classifier inside the backbone is left out: our networks have none. A prefix that all names
    share and no name of the network has, such as `encoder.`, is taken off; see `with_counters`.

    Raises:
        ValueError: one sentence with the first misfit: another number of classes, or a tensor that is
            missing, unknown or of another shape.
    """
    own = network.state_dict()
    first = {name.partition(".")[0] + "." for name in state}
    while len(first) == 1 and not any(name.startswith(tuple(first)) for name in own):
        state = {name.removeprefix(*first): tensor for name, tensor in state.items()}
        first = {name.partition(".")[0] + "." for name in state if "." in name}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_timm_heads(network))}
    state = with_counters(own, state)
    found = misfits(own, state)
    if not found:
        return state
    backbone = getattr(network, "backbone_name", None)
    target = type(network).__name__ + (f" on {backbone}" if backbone else "")
    classes = getattr(network, "class_tensor", "")
    if classes in own and _only_rows_differ(own, state, classes):
        raise ValueError(
            f"{what}: the weights are for {len(state[classes])} classes, but {target} has {len(own[classes])}"
        )
    raise ValueError(f"{what}: the weights belong to another network than {target}: {summarise(found)}")


def with_counters(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors, and zeros for the counters of batches that normalisations lack in files of before PyTorch 0.4.1.

    Args:
        wanted: the network's tensors; only names count.
        given: the tensors to fill it with.
    """
    counters = [name for name in wanted if name.endswith(".num_batches_tracked") and name not in given]
    return {**given, **{name: torch.zeros((), dtype=torch.int64) for name in counters}}


def misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], spell: Callable[[str], str] = str) -> list[str]:
    """What keeps tensors from filling a network, one clause for each: missing, of another shape, or unknown.

    Args:
        wanted: the network's tensors; only shapes count.
        given: the tensors to fill it with.
        spell: how a tensor is called in the clauses.
    """
    shapes = {name: (tuple(given[name].shape), tuple(wanted[name].shape)) for name in wanted if name in given}
    found = [f"{spell(n)!r} has shape {has} instead of {needs}" for n, (has, needs) in shapes.items() if has != needs]
    found += [f"{spell(name)!r} is missing" for name in wanted if name not in given]
    return found + [f"{spell(name)!r} has no place in it" for name in given if name not in wanted]


def summarise(found: Sequence[str]) -> str:
    """The first of some misfits, and the number of the others."""
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


def _only_rows_differ(own: Mapping[str, Tensor], state: Mapping[str, Tensor], classes: str) -> bool:
    layer = classes.rpartition(".")[0]
    if own.keys() != state.keys() or not state[classes].ndim or len(own[classes]) == len(state[classes]):
        return False
    return all(
        state[name].shape == own[name].shape
        or (name.rpartition(".")[0] == layer and state[name].shape[1:] == own[name].shape[1:])
        for name in own
    )


def _timm_heads(network: nn.Module) -> tuple[str, ...]:
    config = getattr(getattr(network, "backbone", network), "pretrained_cfg", {})
    names = config.get("classifier") or ()
    prefix = "backbone." if hasattr(network, "backbone") else ""
    return tuple(f"{prefix}{name}." for name in ((names,) if isinstance(names, str) else names))


def load_torch_file(data: bytes, entry: str | None = None) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, of a .pth or .pt file.

    The file holds a mapping of names to tensors, or has one among other things under a name such as those of
    `WRAPPERS`, or has several, one of which `entry` chooses.

    Args:
        data: the file's content.
        entry: name of the mapping, such as `teacher`, or `model.ema` for one inside another.

    Raises:
        ValueError: in one clause, when the file is damaged, holds other objects than tensors and plain values, or
            several mappings and `entry` does not say which is meant.
    """
    if data.startswith(MAGICS[0]):
        _check_archive(data)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(_refusal(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"the PyTorch file holds a {type(content).__name__}, not a flat mapping of names to tensors")
    found = {"": content} if _is_flat(content) else _state_dicts(content)
    if entry is not None:
        found = {name: state for name, state in _state_dicts(content).items() if name == entry}
        if not found:
            raise ValueError(f"the PyTorch file has no state dict {entry!r}, only {_or(_state_dicts(content))}")
    elif len(found) > 1:
        known = {name: state for name, state in found.items() if name.rpartition(".")[2] in WRAPPERS}
        found = known or found
    if not found:
        _refuse_other(content)
    if len(found) > 1:
        names = list(found)
        raise ValueError(
            f"the PyTorch file holds several networks, {', '.join(names)}; say which is meant by the end of its name, "
            f"such as FILE.pth#{names[0]}"
        )
    return {name: tensor.detach() for name, tensor in next(iter(found.values())).items()}


def _is_flat(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _state_dicts(content: Mapping[Any, Any], path: tuple[str, ...] = ()) -> dict[str, dict[str, Tensor]]:
    """Flat mappings inside a checkpoint, by the names that lead to them; those of optimisers lie deeper."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, dict):
            continue
        if _is_flat(value):
            found[".".join((*path, name))] = value
        elif len(path) + 1 < _DEPTH:
            found |= _state_dicts(value, (*path, name))
    return found


def _or(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names)) or "none"


def _refuse_other(content: dict[Any, Any]) -> NoReturn:
    other = next(
        (name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))), None
    )
    if other is None:
        raise ValueError("the PyTorch file holds no tensors")
    raise ValueError(
        "the PyTorch file must hold one flat mapping of names to tensors, but its entry "
        f"{other!r} is of type {type(content[other]).__name__}; save its tensors alone"
    )


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
        raise ValueError(f"the PyTorch file is damaged: the checksum of its member {broken!r} is wrong")


def _refusal(error: Exception) -> str:
    pickled = re.search(r"GLOBAL ([\w.]+)", str(error))
    if pickled is None:
        return "the PyTorch file is damaged or holds Python objects besides tensors, which is refused"
    return (
        f"the PyTorch file pickles {pickled[1]} besides tensors, which is refused, because it could run code; "
        "where it was made, save its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
    )
