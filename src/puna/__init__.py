"""Puna: any published model checkpoint becomes one GGUF file, and runs.

    import puna
    model = puna.load("smollm2")
    for chunk in model.chat([{"role": "user", "content": "Why is the sky blue?"}]):
        print(chunk.text, end="")

Names are imported when they are first used, so that `import puna` costs next to nothing.
"""

import sys

__version__ = "0.1.0"

__all__ = [
    "GGUF",
    "RENDERERS",
    "Chunk",
    "ConversionReport",
    "Manifest",
    "Message",
    "Model",
    "ModelName",
    "Modelfile",
    "PunaError",
    "Store",
    "Verification",
    "convert",
    "create",
    "dequantize",
    "errors",
    "export",
    "load",
    "open_gguf",
    "parse_modelfile",
    "parse_output",
    "quantize",
    "render",
    "verify",
]

TYPE_CHECKING = False  # typing itself is slow to import; type checkers know the name
if TYPE_CHECKING:
    from puna import errors
    from puna.create import create
    from puna.create.convert import ConversionReport, convert
    from puna.create.modelfile import Modelfile, parse_modelfile
    from puna.create.verify import Verification
    from puna.errors import PunaError
    from puna.exporting import export
    from puna.formats.gguf import GGUF, open_gguf
    from puna.generation import Chunk
    from puna.loading import load
    from puna.model import Model
    from puna.parsing import parse_output
    from puna.quants import dequantize, quantize
    from puna.rendering import render
    from puna.store.manifest import Manifest
    from puna.store.name import ModelName
    from puna.store.store import Store
    from puna.template.message import Message
    from puna.template.named import RENDERERS
    from puna.verifying import verify
else:
    _HOMES = {
        "GGUF": "formats.gguf",
        "RENDERERS": "template.named",
        "Chunk": "generation",
        "ConversionReport": "create.convert",
        "Manifest": "store.manifest",
        "Message": "template.message",
        "Model": "model",
        "ModelName": "store.name",
        "Modelfile": "create.modelfile",
        "PunaError": "errors",
        "Store": "store.store",
        "Verification": "create.verify",
        "convert": "create.convert",
        "create": "create",
        "dequantize": "quants",
        "errors": "errors",
        "export": "exporting",
        "load": "loading",
        "open_gguf": "formats.gguf",
        "parse_modelfile": "create.modelfile",
        "parse_output": "parsing",
        "quantize": "quants",
        "render": "rendering",
        "verify": "verifying",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'puna' has no attribute '{name}'")
        home = f"puna.{_HOMES[name]}"
        __import__(home)
        if name not in globals():  # `create` and `errors` are modules, which importing has bound already
            globals()[name] = getattr(sys.modules[home], name)
        return globals()[name]

    def __dir__():
        return [*__all__, "__version__"]
