"""Import paths that the documentation teaches, wherever the modules behind them lie."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PLACES = {
    "pfit_ray.cam_sources": "pfit_ray.data.cam_sources",
    "pfit_ray.region_sources": "pfit_ray.data.region_sources",
    "pfit_ray.schema": "pfit_ray.constants",
}


class RenamedFinder(MetaPathFinder, Loader):
    """Finds a module of `PLACES` under its public name: both names give the same module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for a public name, None for every other module."""
        return ModuleSpec(fullname, self) if fullname in PLACES else None

    def create_module(self, spec: ModuleSpec) -> None:
        """The import system makes an empty module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the real module into the place of the empty one."""
        sys.modules[module.__name__] = importlib.import_module(PLACES[module.__name__])
