"""Lazy tensors, the op table, and the passes that turn a graph into something a backend can run."""

from puna.graph import experts as _experts  # noqa: F401 - fills the op table
from puna.graph import fused as _fused  # noqa: F401 - fills the op table
from puna.graph import parallel as _parallel  # noqa: F401 - fills the op table
from puna.graph import recurrent as _recurrent  # noqa: F401 - fills the op table
from puna.graph.tensor import Dim, O, S, Shape, T, Tensor, constant, input_, state, topological, weight

__all__ = ["Dim", "O", "S", "Shape", "T", "Tensor", "constant", "input_", "state", "topological", "weight"]
