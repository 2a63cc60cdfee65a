"""Models of the transformers library for sources: from the Hugging Face hub, or from a local folder in its layout."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import util
from typing import Any

from pfit_ray.errors import UserError

EXTRA = "foundation"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class HubModel:
    """Where a model is: a name on the hub, such as `facebook/sam-vit-base`, or a folder.

    Nothing is downloaded or read before it is loaded, and only safetensors files are: no code, no pickles.

    Args:
        model: the name or the folder.
        revision: branch, tag or commit on the hub; None takes its main branch.
        what: what wants it, for error messages, such as "regions.sources kind sam".

    Raises:
        UserError: when transformers is not installed, or a folder lacks what a model needs.
    """

    def __init__(self, model: str, revision: str | None, what: str) -> None:
        if util.find_spec("transformers") is None:
            raise UserError(
                f'config: {what} needs the package transformers; pip install "pfit-ray[{EXTRA}]" on every node, or '
                "choose another source"
            )
        self.what = what
        self.revision = revision
        path = os.path.expanduser(model)
        self.is_folder = os.path.isdir(path) or path.startswith(("/", "./", "../"))
        self.model = os.path.abspath(path) if self.is_folder else model  # workers may work elsewhere
        if not self.is_folder:
            return
        there = os.listdir(self.model) if os.path.isdir(self.model) else []
        if "config.json" not in there or not any(name in there for name in WEIGHTS):
            raise UserError(
                f"config: {what}: {self.model} must be a folder with config.json and {WEIGHTS[0]}, as a model of the "
                "hub has them; save one there by its save_pretrained, or give its name on the hub"
            )

    def load(self, loader: Callable[..., Any], **options: Any) -> Any:
        """What a class's `from_pretrained` makes of it.

        Args:
            loader: `from_pretrained` of a class of transformers.
            **options: what it takes besides.

        Raises:
            UserError: when it cannot be had, or is no such model.
        """
        with quiet():
            try:
                return loader(
                    self.model,
                    revision=self.revision or "main",
                    local_files_only=self.is_folder,
                    trust_remote_code=False,
                    **options,
                )
            except Exception as error:  # of many kinds: no network, no such name, another layout, shapes
                why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
                raise UserError(
                    f"config: {self.what}: model {self.model!r} cannot be had ({why}); give a name on the hub that "
                    "this node can reach, or a folder with its files"
                ) from error

    def load_network(self, loader: Callable[..., Any], device: Any) -> Any:
        """A network for inference, float32, on a device; see `load`."""
        import torch

        return self.load(loader, use_safetensors=True, dtype=torch.float32).eval().to(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and advice that transformers prints."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
