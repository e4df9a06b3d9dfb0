"""Beginnings in files: another process goes on from them bit for bit, and refuses those that are not its own."""

import numpy as np
import pytest

import puna
from cli.tiny import write_tiny
from golden.checkpoints import write_checkpoint
from puna.errors import FormatError, RequestError
from puna.formats.safetensors import open_safetensors, write_safetensors

CASES = {
    "llama2": {},
    "lfm2": {},
    "jamba": {},
    "rwkv7": {},
    "gemma3": {"sliding_window": 70, "max_position_embeddings": 8192},
    "gemma3n": {"sliding_window": 64, "max_position_embeddings": 8192},
    "deepseek_v2": {},
}


@pytest.fixture(scope="module", params=CASES)
def source(request, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp(request.param), request.param, **CASES[request.param])


def prompt_of(length, seed=0):
    return np.random.default_rng(seed).integers(3, 250, length).tolist()


def answered(model, tokens, count=8):
    answer = list(model.generate(tokens, temperature=0, num_predict=count, logprobs=True, ignore_eos=True))
    said = [(p.token, p.logprob) for chunk in answer for p in chunk.logprobs]
    assert len(said) == count
    return said, answer[-1].stats.cached_tokens


def test_what_is_loaded_goes_on_as_if_it_had_been_computed(source, tmp_path):
    goes_on(source, tmp_path / "a", threads=2)


@pytest.mark.parametrize("kv_type", ["q8_0", "f32"])
def test_keys_and_values_of_any_type_go_on(kv_type, tmp_path):
    goes_on(write_checkpoint(tmp_path, "llama2"), tmp_path / "a", kv_type=kv_type)


def goes_on(source, path, **options):
    prefix = prompt_of(205)
    prompt = [*prefix, *prompt_of(20, seed=1)]
    first = puna.load(source, **options)
    assert first.save_prefix(path, prefix) == 205
    want, _ = answered(first, prompt)
    second = puna.load(source, **options)
    assert answered(second, prompt_of(77, seed=2)) == answered(first, prompt_of(77, seed=2))  # blocks lie elsewhere
    assert second.load_prefix(path) == prefix
    assert answered(second, prompt) == (want, 205)
    assert answered(puna.load(source, **options), prompt) == (want, 0)


def test_the_definition_does_so_too(tmp_path):
    source = write_tiny(tmp_path / "tiny.gguf")
    models = [puna.load(source, backend="numpy") for _ in range(2)]
    prompt = prompt_of(90)
    models[0].save_prefix(tmp_path / "a", prompt[:80])
    models[1].load_prefix(tmp_path / "a")
    said = [answered(model, prompt) for model in models]
    assert said[0] == said[1]
    assert said[1][1] == 80


def saved(tmp_path, **options):
    source = write_tiny(tmp_path / "tiny.gguf")
    puna.load(source, **options).save_prefix(tmp_path / "a", prompt_of(80))
    return source


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kv_type": "f32"}, "kv_type 'f16', and here that is 'f32'"),
        ({"backend": "numpy"}, "backend 'cpu "),
        ({"context_length": 64}, "80 tokens, and the context 64"),
    ],
)
def test_what_differs_is_named(tmp_path, options, named):
    source = saved(tmp_path)
    with pytest.raises(RequestError, match=named):
        puna.load(source, **options).load_prefix(tmp_path / "a")


def test_other_weights_are_told_from_those_that_it_was_computed_with(tmp_path):
    saved(tmp_path)
    other = write_tiny(tmp_path / "other.gguf", llama__attention__layer_norm_rms_epsilon=1e-4)
    with pytest.raises(RequestError, match="it was saved with weights '"):
        puna.load(other).load_prefix(tmp_path / "a")


def test_a_file_that_was_tampered_with_is_refused(tmp_path):
    model = puna.load(saved(tmp_path))
    with open_safetensors(tmp_path / "a") as file:
        arrays, metadata = {name: t.numpy() for name, t in file.tensors.items()}, dict(file.metadata)
    name = next(name for name in arrays if name != "tokens")
    for changed in ({name: arrays[name][:, :1]}, {name: arrays[name].view(np.int8)}, {"tokens": np.zeros(0, np.int32)}):
        write_safetensors(tmp_path / "b", {**arrays, **changed}, metadata)
        with pytest.raises((FormatError, RequestError), match="reading"):
            model.load_prefix(tmp_path / "b")
    write_safetensors(tmp_path / "c", arrays, {**metadata, "puna.prefix": "9"})
    with pytest.raises(FormatError, match="no prefix of version 1"):
        model.load_prefix(tmp_path / "c")
    assert answered(model, prompt_of(90))[1] == 0  # nothing of them is gone on from


def test_messages_stand_for_what_conversations_begin_with(tmp_path):
    source = write_tiny(tmp_path / "tiny.gguf")
    beginning = [{"role": "system", "content": "Answer with letters. " * 4}]
    count = puna.load(source).save_prefix(tmp_path / "a", beginning)
    model = puna.load(source)
    tokens = model.load_prefix(tmp_path / "a")
    assert len(tokens) == count
    last = [*model.chat([*beginning, {"role": "user", "content": "a"}], num_predict=3)][-1]
    assert last.stats.cached_tokens == count
    assert model.tokenizer.decode(tokens).startswith("<|start|>system\nAnswer")
