"""`puna show`: what a model is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from puna.cli.told import Shown


@click.command()
@click.argument("model", required=False)
@click.option("--modelfile", is_flag=True, help="The Modelfile that would make it again.")
@click.option("--template", is_flag=True, help="The chat template.")
@click.option("--system", is_flag=True, help="The system message.")
@click.option("--parameters", is_flag=True, help="The stored options.")
@click.option("--license", is_flag=True, help="The licence.")
@click.option("--metadata", is_flag=True, help="The GGUF metadata.")
@click.option("--tensors", is_flag=True, help="Every tensor with its type and shape.")
@click.option("--archs", is_flag=True, help="The architectures that Puna knows.")
def command(model: str | None, archs: bool, **parts: bool) -> None:
    """Show what MODEL is made of: a name, a GGUF file or a checkpoint directory, or hf.co/USER/REPO that was pulled."""
    if archs:
        from puna import arch

        for name in arch.names():
            click.echo(f"{name:12} {', '.join(arch.find(name).hf_classes)}")
        return
    chosen = [name for name, wanted in parts.items() if wanted]
    if len(chosen) > 1:
        raise click.UsageError(f"--{chosen[0]} and --{chosen[1]}: one part at a time")
    if model is None:
        raise click.UsageError("which model? `puna list` shows those in the store")
    from puna.cli.places import find_place

    for line in PARTS[chosen[0] if chosen else "summary"](find_place().shown(model)):
        click.echo(line)


def _summary(opened: Shown) -> Iterator[str]:
    from puna.formats.gguf_kinds import kind_of

    metadata = opened.metadata
    arch, kind = metadata.get("general.architecture"), kind_of(metadata)
    types: dict[str, int] = {}
    for tensor in opened.tensors.values():
        types[tensor.dtype.name] = types.get(tensor.dtype.name, 0) + 1
    rows = {
        "name": metadata.get("general.name"),
        "kind": None if kind == "model" else kind,
        "architecture": arch,
        "parameters": f"{sum(prod(t.shape) for t in opened.tensors.values()):,}",
        "tensor types": ", ".join(f"{count} {name}" for name, count in sorted(types.items())),
        "context length": metadata.get(f"{arch}.context_length"),
        "embedding length": metadata.get(f"{arch}.embedding_length"),
        "tokenizer": metadata.get("tokenizer.ggml.model"),
        "template": _template_kind(opened),
        "licence": metadata.get("general.license"),
        "file": opened.source,
        "linked to": _origin(opened),
    }
    for name, value in rows.items():
        if value is not None:
            yield f"{name:18} {value}"
    yield from (f"{'adapter':18} {path}" for path, _ in opened.adapters)
    yield from (f"{'parameter':18} {line}" for line in parameter_lines(opened.params))


def _template_kind(opened: Shown) -> str:
    if opened.renderer:
        return f"renderer {opened.renderer}"
    return "Modelfile's" if opened.template else "own" if "tokenizer.chat_template" in opened.metadata else "none"


def _origin(opened: Shown) -> str | None:
    from puna.store import Store

    if opened.source is None:
        return None
    blob = opened.source.name.replace("sha256-", "sha256:")
    return Store(opened.source.parent.parent).origin(blob) if opened.source.parent.name == "blobs" else None


def parameter_lines(options: Mapping[str, Any]) -> Iterator[str]:
    """A line for each option, several for one that collects."""
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            yield f"{name} {json.dumps(item) if isinstance(item, str) else item}"


def _modelfile(opened: Shown) -> Iterator[str]:
    yield "# Made by `puna show --modelfile`; to build a model of your own on it, FROM its name is shorter."
    yield str(opened.modelfile()).rstrip("\n")


def _metadata(opened: Shown) -> Iterator[str]:
    for key, value in opened.metadata.items():
        long = not isinstance(value, (str, int, float)) and len(value) > 8
        yield f"{key} = {f'{len(value)} values, {_plain(value[:4])} ...' if long else repr(_plain(value))}"


def _plain(value: Any) -> Any:
    """A metadata value in Python's own types."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return value if isinstance(value, (str, int, float)) else [_plain(item) for item in value]


def _tensors(opened: Shown) -> Iterator[str]:
    for name, tensor in opened.tensors.items():
        yield f"{name:40} {tensor.dtype.name:6} {' x '.join(map(str, tensor.shape))}"


PARTS: dict[str, Callable[[Shown], Iterator[str]]] = {
    "summary": _summary,
    "modelfile": _modelfile,
    "template": lambda o: iter([str(o.template or o.metadata.get("tokenizer.chat_template") or "")]),
    "system": lambda o: iter([o.system or ""]),
    "parameters": lambda o: parameter_lines(o.params),
    "license": lambda o: iter(o.licenses or [str(o.metadata.get("general.license") or "")]),
    "metadata": _metadata,
    "tensors": _tensors,
}
