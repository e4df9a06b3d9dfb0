"""Makes models: reads sources, converts, quantizes, and writes what a Modelfile describes into a store.

The package is called like the public function `puna.create`, so it can be called like it too.
"""

import sys
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from puna.arguments import require_types

if TYPE_CHECKING:
    from puna.create.modelfile import Modelfile
    from puna.formats.imatrix import Imatrix
    from puna.quants.recipe import Recipe
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
    directory: str | PathLike[str] = ".",
    link: bool = False,
    quantize: str | None = None,
    recipe: "str | PathLike[str] | Recipe | None" = None,
    imatrix: "str | PathLike[str] | Imatrix | None" = None,
    target_size: str | int | None = None,
    target_bpw: float | None = None,
) -> "Manifest":
    """Creates or replaces a model in Puna's own store (or `store`); `puna.create.build.create` tells the rest.

    `quantize` and what follows it are as in `puna.convert`.
    """
    from puna.create import build
    from puna.create.modelfile import Modelfile
    from puna.errors import StoreError
    from puna.store import ModelName, Store

    require_types("creating a model", StoreError, name=(name, (str, ModelName)))
    require_types(
        f"creating {name}",
        StoreError,
        modelfile=(modelfile, (str, bytes, Modelfile)),
        store=(store, Store),
        directory=(directory, (str, Path, PathLike)),
        link=(link, bool),
        quantize=(quantize, str),
    )
    if name is None or modelfile is None:
        raise StoreError(f"creating {name}: a name and a Modelfile are needed, not None")
    if not all(function is None or callable(function) for function in (convert, on_progress)):
        raise StoreError(f"creating {name}: convert and on_progress are functions, or left out")
    return build.create(
        store if store is not None else Store(),
        name,
        modelfile,
        convert=convert,
        on_progress=on_progress,
        directory=Path(directory),
        link=link,
        quantize=quantize,
        recipe=recipe,
        imatrix=imatrix,
        target_size=target_size,
        target_bpw=target_bpw,
    )


class _CallableModule(ModuleType):
    """A package whose name the public API also uses for a function."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Manifest":
        return create(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
__wrapped__ = create  # whose signature `inspect` shows for both
