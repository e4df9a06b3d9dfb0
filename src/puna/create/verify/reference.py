"""Transformers as the truth: it runs a checkpoint directory in float32 once, and what leaves each block is kept.

It is imported when it is asked for; nothing is downloaded and no code of the checkpoint is run.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.create.verify.sides import Side
from puna.create.verify.stages import DECODER, Stage
from puna.errors import BackendError, ModelError, TemplateError

Array = NDArray[Any]


def open_transformers(source: Side, ids: Sequence[int]) -> Transformers:
    """Load and run; ModelError where it has no such model, BackendError where it is not installed."""
    if source.directory is None:
        raise ModelError(f"verifying: transformers reads checkpoint directories, and {source.label} is none")
    library = _library()
    name = _class_name(source.directory)
    made = getattr(library, name, None)
    if made is None:
        raise ModelError(f"verifying: transformers {library.__version__} has no class '{name}'; a newer one may")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    plain = {"attn_implementation": "eager", _dtype_key(library): importlib.import_module("torch").float32}
    try:
        model = made.from_pretrained(str(source.directory), local_files_only=True, **plain).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"verifying: transformers cannot load {source.label}: {error}") from error
    states = _run(model, _blocks_of(model, source), ids)
    return Transformers(f"transformers {library.__version__} in float32", source.directory, states)


def memory(source: Side) -> int:
    """Bytes that the whole model takes there."""
    return 4 * sum(prod(tensor.shape) for tensor in source.tensors.values())


class Transformers:
    """What it computed (a `running.Truth`), and its tokenizer; `name` with its version."""

    def __init__(self, name: str, directory: Path, states: Mapping[int, Array]) -> None:
        self.name = name
        self._states = states  # after each block, by its number; ENTERED and OUTPUT
        self._tokenizer = _tokenizer(directory)

    def gives(self, place: int, stage: Stage) -> list[Array | None]:
        """Hidden states, or the output; what else a stage gives is not known."""
        known = self._states[stage.blocks[-1] if stage.blocks else ENTERED if stage.name == "embedding" else OUTPUT]
        fits = len(stage.main) == 1 and known.shape[-1] == stage.outputs[stage.main[0]].shape[-1]
        return [known if fits and i in stage.main else None for i in range(len(stage.gives))]

    @property
    def encode(self) -> Any:
        """Its tokenizer as a function from text to ids; None where it has none for this directory."""
        if self._tokenizer is None:
            return None
        return partial(self._tokenizer.encode, add_special_tokens=False)

    @property
    def render(self) -> Any:
        """Its chat template as a function from a conversation to the prompt; None where there is none."""
        if self._tokenizer is None or not self._tokenizer.chat_template:
            return None
        return self._rendered

    def _rendered(self, said: Mapping[str, Any]) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in said["messages"]],
                    tools=said.get("tools"),
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
        except Exception as error:  # a template raises what it likes
            raise TemplateError(f"transformers: {error}") from error


def _library() -> Any:
    try:
        importlib.import_module("torch")
        return importlib.import_module("transformers")
    except ImportError as error:
        raise BackendError(
            f"verify: reference 'transformers' needs the library {error.name!r}; pip install transformers torch"
        ) from error


def _dtype_key(library: Any) -> str:
    """What the argument is called that says in which type weights are loaded."""
    major, minor = (int(number) for number in library.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


def _class_name(directory: Path) -> str:
    from puna.create.config import class_of, read_config

    return class_of(directory, read_config(directory))


def _tokenizer(directory: Path) -> Any:
    try:
        return _library().AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except Exception:  # it raises what it likes; another library is then asked what is right
        return None


def _blocks_of(model: Any, source: Side) -> dict[int, Any]:
    """The model's blocks by their numbers, those of an encoder before those of its decoder."""
    hp = source.hparams()
    if source.arch.encoder is None:
        return dict(enumerate(_blocks(model, hp.n_blocks)))
    count = sum(spec.read for spec in source.arch.caches(hp))
    decoder = _blocks(model.get_decoder(), count)
    return dict(enumerate(_blocks(model.get_encoder(), hp.n_blocks))) | dict(enumerate(decoder, DECODER))


def _blocks(model: Any, count: int) -> Any:
    """The list of the model's blocks: the one nearest to the top that has as many."""
    found = [
        (name.count("."), name, module)
        for name, module in model.named_modules()
        if type(module).__name__ == "ModuleList" and len(module) == count
    ]
    if not found:
        raise ModelError(f"verifying: transformers' {type(model).__name__} has no list of {count} blocks")
    return min(found, key=lambda entry: entry[:2])[2]


ENTERED, OUTPUT = -2, -1
"""The numbers of what comes before the first block, and of what the model gives."""


def _run(model: Any, blocks: Mapping[int, Any], ids: Sequence[int]) -> dict[int, Array]:
    """Hidden states before the first block and after each, (tokens, hidden), and the model's output.

    A decoder behind an encoder says the same tokens; what it reads is the encoder's last state.
    """
    torch = importlib.import_module("torch")
    states: dict[int, Array] = {}

    def entered(module: Any, args: Any, kwargs: Any) -> None:
        states[ENTERED] = _array(args[0] if args else kwargs["hidden_states"])

    def left(place: int, module: Any, args: Any, output: Any) -> None:
        states[place] = _array(output[0] if isinstance(output, tuple) else output)

    said = torch.tensor([list(ids)])
    more = {"decoder_input_ids": said} if DECODER in blocks else {}
    hooks = [blocks[0].register_forward_pre_hook(entered, with_kwargs=True)]
    hooks += [block.register_forward_hook(partial(left, i)) for i, block in blocks.items()]
    try:
        with torch.no_grad():
            output = model(input_ids=said, **more)
    finally:
        for hook in hooks:
            hook.remove()
    before = ENTERED
    for i in blocks:
        states.setdefault(i, states[before])  # a block that was passed over
        before = i
    if more:
        states[max(i for i in blocks if i < DECODER)] = _array(output.encoder_last_hidden_state)
    states[OUTPUT] = _array(output.logits if hasattr(output, "logits") else output.last_hidden_state)
    return states


def _array(tensor: Any) -> Array:
    """A batch of one as (tokens, width)."""
    return np.array(tensor.detach().float().numpy()[0])
