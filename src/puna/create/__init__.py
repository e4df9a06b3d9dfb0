"""Makes models: reads sources, converts, quantizes, and writes what a Modelfile describes into a store.

The package is called like the public function `puna.create`, so it can be called like it too.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puna.create.modelfile import Modelfile
    from puna.store import Manifest, ModelName, Store
    from puna.store.blobs import Progress
    from puna.store.store import Convert


def create(
    name: "ModelName | str",
    modelfile: "Modelfile | str | bytes",
    *,
    store: "Store | None" = None,
    convert: "Convert | None" = None,
    on_progress: "Progress | None" = None,
    directory: str | Path = ".",
) -> "Manifest":
    """Creates or replaces a model in Puna's own store (or `store`); `puna.create.build.create` tells the rest."""
    from puna.create import build
    from puna.store import Store

    target = store if store is not None else Store()
    return build.create(target, name, modelfile, convert=convert, on_progress=on_progress, directory=directory)


class _CallableModule(ModuleType):
    """A package whose name the public API also uses for a function."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Manifest":
        return create(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
