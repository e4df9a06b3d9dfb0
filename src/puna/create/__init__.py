"""Makes models: reads sources, converts, quantizes, and writes what a Modelfile describes into a store.

The package is also the public function `puna.create`: calling it calls `puna.create.build.create`.
"""

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A package whose name the public API also uses for a function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from puna.create.build import create

        return create(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
