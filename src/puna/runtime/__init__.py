"""What runs an opened model: its weights in a backend, the engines on them, adapters, a draft. Token ids, not text."""

from puna.runtime.runtime import Runtime

__all__ = ["Runtime"]
