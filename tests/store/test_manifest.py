import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import StoreError
from puna.store import Config, Layer, Manifest
from puna.store.manifest import params_json, parse_manifest, to_json

CONFIG = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "sha256:" + "c" * 64, "size": 3}
MODEL = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "a" * 64, "size": 12}
TOP = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}


def test_a_manifest_is_written_byte_for_byte_as_ollama_writes_it() -> None:
    config = Layer("application/vnd.docker.container.image.v1+json", "sha256:" + "c" * 64, 3)
    layer = Layer("application/vnd.ollama.image.model", "sha256:" + "a" * 64, 12, source="base:latest")
    assert Manifest(config, (layer,)).to_json() == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        b'"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:' + b"c" * 64 + b'",'
        b'"size":3},"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:' + b"a" * 64 + b'",'
        b'"size":12,"from":"base:latest"}]}\n'
    )


def test_params_are_written_as_go_writes_them() -> None:
    values = {"temperature": 1.0, "stop": ["<|im_end|>", "&\u2028é"], "top_p": 0.9, "num_ctx": 4096}
    assert params_json(values) == (
        b'{"num_ctx":4096,"stop":["\\u003c|im_end|\\u003e","\\u0026\\u2028\xc3\xa9"],"temperature":1,"top_p":0.9}\n'
    )


def test_a_config_keeps_what_puna_does_not_know() -> None:
    text = b'{"model_format":"gguf","model_families":null,"capabilities":["tools"],"architecture":"amd64","os":"linux"}'
    config = Config.from_json(text)
    assert (config.model_format, config.model_families, config.extra) == ("gguf", [], {"capabilities": ["tools"]})
    assert json.loads(config.to_json())["capabilities"] == ["tools"]


LAYERS = st.builds(
    Layer,
    st.text(max_size=20),
    st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
    st.integers(0, 2**63 - 1),
    st.text(max_size=8),
    st.text(max_size=8),
)


@given(LAYERS, st.lists(LAYERS, max_size=4))
def test_a_manifest_reads_back_as_it_was_written(config: Layer, layers: list[Layer]) -> None:
    manifest = Manifest(config, tuple(layers))
    assert parse_manifest(manifest.to_json(), "it") == manifest


BAD: list[tuple[Any, str]] = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"[]", "a JSON list, not an object"),
    ({}, "schemaVersion is None"),
    (TOP | {"config": CONFIG, "layers": 1}, "'layers' is not a list"),
    (TOP | {"layers": []}, "config: not an object"),
    (TOP | {"config": CONFIG, "layers": [MODEL, 1]}, "layer 1: not an object"),
    (TOP | {"config": CONFIG, "layers": [MODEL | {"size": -1}]}, "layer 0: size is -1"),
    (TOP | {"config": CONFIG, "layers": [MODEL | {"size": True}]}, "layer 0: size is True"),
    (TOP | {"config": CONFIG, "layers": [MODEL | {"size": 2**63}]}, "layer 0: size is 9223372036854775808"),
    (TOP | {"config": CONFIG, "layers": [MODEL | {"digest": "sha256:../../x"}]}, "layer 0: digest"),
    (TOP | {"config": CONFIG, "layers": [MODEL | {"name": 1}]}, "layer 0: 'name' is not text"),
]


@pytest.mark.parametrize(("content", "reason"), BAD)
def test_a_bad_manifest_is_refused_with_the_field_that_is_wrong(content: Any, reason: str) -> None:
    data = content if isinstance(content, bytes) else to_json(content)
    with pytest.raises(StoreError) as caught:
        parse_manifest(data, "manifest m")
    assert reason in str(caught.value)
    assert str(caught.value).startswith("manifest m")


def test_a_huge_manifest_is_refused_unread() -> None:
    with pytest.raises(StoreError, match="at most 16777216"):
        parse_manifest(b" " * (16 << 20) + b"{}", "manifest m")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TOP, *MODEL, "config", "layers"]), inner)
    ),
    max_leaves=12,
)


@given(JSON | st.builds(lambda extra: TOP | {"config": CONFIG, "layers": extra}, JSON))
def test_whatever_json_a_manifest_holds_only_store_errors_come_out(content: Any) -> None:
    try:
        manifest = parse_manifest(json.dumps(content).encode(), "it")
    except StoreError:
        return
    assert manifest.size >= 0
