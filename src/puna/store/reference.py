"""What kind of reference a text is: a path, a remote place, or else a name. It opens no store."""

from os import PathLike, fspath

from puna.store.hub_ref import is_hub


def is_path(ref: str | PathLike[str]) -> bool:
    """Whether a reference is written as a path, so that no store is asked."""
    text = fspath(ref)
    return isinstance(ref, PathLike) or text.startswith((".", "/", "~")) or text.endswith(".gguf") or "\\" in text


def is_remote(ref: str | PathLike[str]) -> bool:
    """Whether a reference is to the hub (hf.co/...) or to PyPI (pypi:...)."""
    return is_hub(ref) or (isinstance(ref, str) and ref.startswith("pypi:"))
