"""RWKV's own layout: the same model written in it and in Hugging Face's gives the same GGUF file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from formats.torch_files import storage, tensor, zip_file
from golden.checkpoints import weights_of, write_checkpoint
from puna.create.source import select_files
from puna.errors import PunaError
from tokenizer import worlds

Weights = dict[str, np.ndarray[Any, Any]]

FILE = "RWKV-x070-World-0.1B.pth"
RENAMED = (
    *(("model.embeddings", "emb"), ("lm_head", "head"), ("model.norm", "ln_out"), ("model.layers", "blocks")),
    *(("pre_norm", "ln0"), ("attn_norm", "ln1"), ("ffn_norm", "ln2"), (".attn.", ".att."), ("g_norm", "ln_x")),
    *(("r_proj", "receptance"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "output")),
    *(("_lora.lora.0.weight", "1"), ("_lora.lora.2.weight", "2"), ("_lora.lora.2.bias", "0")),
)


def own_weights() -> Weights:
    """The case's, by its authors' names and in their arrangement, and what the first block has for nothing."""
    out: Weights = {}
    for name, array in weights_of("rwkv7").items():
        turned = array.T if "_lora.lora." in name and array.ndim == 2 else array
        row = name.endswith(("_lora.lora.2.bias", "k_k", "k_a", "ffn.x_k"))
        for ours, theirs in RENAMED:
            name = name.replace(ours, theirs)
        out[name] = np.ascontiguousarray(turned.reshape(1, 1, -1) if row else turned)
    return out | {f"blocks.0.att.v{i}": out[f"blocks.1.att.v{i}"] + 1 for i in range(3)}


def own_directory(folder: Path, weights: Weights, bf16: bool = False) -> Path:
    folder.mkdir()
    kind = "torch.BFloat16Storage" if bf16 else "torch.FloatStorage"
    raw = {
        n: (a.view(np.uint32) >> 16).astype(np.uint16).tobytes() if bf16 else a.tobytes() for n, a in weights.items()
    }
    strides = {n: tuple(s // a.itemsize for s in a.strides) for n, a in weights.items()}
    value = {n: tensor(storage(n, a.size, kind), a.shape, strides[n]) for n, a in weights.items()}
    (folder / FILE).write_bytes(zip_file(value, raw))
    (folder / "rwkv_vocab_v20230424.txt").write_text(worlds.lines(worlds.tokens()), "utf-8")
    return folder


def content(source: Path, out: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """The metadata that is not about the file, and every tensor with its bytes."""
    puna.convert(source, out)
    with puna.open_gguf(out) as file:
        said = {k: v for k, v in file.metadata.items() if k.startswith("rwkv7.") or k == "tokenizer.ggml.eot_token_id"}
        return said, {n: (t.shape, t.dtype.name, t.raw.tobytes()) for n, t in file.tensors.items()}


def test_the_same_model_gives_the_same_tensors_and_hyperparameters(tmp_path: Path) -> None:
    want = content(write_checkpoint(tmp_path / "hf", "rwkv7"), tmp_path / "hf.gguf")
    folder = own_directory(tmp_path / "own", own_weights())
    assert content(folder, tmp_path / "own.gguf") == want
    assert content(folder / FILE, tmp_path / "named.gguf") == want


def test_bfloat16_stays_what_it_is(tmp_path: Path) -> None:
    folder = own_directory(tmp_path / "own", own_weights(), bf16=True)
    puna.convert(folder, tmp_path / "m.gguf")
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        key, down = (file.tensors[f"blk.1.time_mix_{part}.weight"] for part in ("key", "a1"))
        want = weights_of("rwkv7")["model.layers.1.attn.a_lora.lora.0.weight"]
        assert (key.dtype.name, down.dtype.name, down.shape) == ("BF16", "BF16", want.shape)
        np.testing.assert_array_equal(down.numpy(), (want.view(np.uint32) & 0xFFFF0000).view(np.float32))


def test_the_report_says_what_sizes_were_taken_from(tmp_path: Path) -> None:
    report = puna.convert(own_directory(tmp_path / "own", own_weights()), tmp_path / "m.gguf", dry_run=True)
    keys = {each.key: (each.value, each.origin) for each in report.keys}
    assert keys["rwkv7.wkv.head_size"] == ("64", "the tensors' shapes")
    assert keys["rwkv7.attention.layer_norm_epsilon"][1] == "RWKV-7's own"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.0.att.time_maa_x": (1, 1, 256)}, "'blocks.0.att.time_maa_x' is none of RWKV-7's layout"),
        ({"blocks.0.att.r_k": None}, "there is no 'blocks.0.att.r_k', or it is no matrix"),
        ({"blocks.1.att.w1": (8192,)}, r"'blocks.1.att.w1' is F32 \(8192,\); a matrix of floats works"),
        ({"blocks.2.att.w2": None}, "rwkv7: the file has no tensor 'blk.2.time_mix_w2.weight'"),
    ],
)
def test_what_is_no_rwkv_7_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    weights = own_weights()
    for name, shape in change.items():
        weights.pop(name, None)
        weights |= {name: np.zeros(shape, np.float32)} if shape else {}
    with pytest.raises(PunaError, match=message):
        puna.convert(own_directory(tmp_path / "own", weights), tmp_path / "m.gguf")


def test_one_of_several_models_has_to_be_alone(tmp_path: Path) -> None:
    folder = own_directory(tmp_path / "own", own_weights())
    (folder / "rwkv7-g1-0.4b.pth").write_bytes((folder / FILE).read_bytes())
    with pytest.raises(PunaError, match=r"which of rwkv7-g1-0.4b.pth, RWKV-x070-World-0.1B.pth\?"):
        puna.convert(folder, tmp_path / "m.gguf")


def test_without_the_vocabulary_its_file_is_named(tmp_path: Path) -> None:
    folder = own_directory(tmp_path / "own", own_weights())
    (folder / "rwkv_vocab_v20230424.txt").unlink()
    with pytest.raises(PunaError, match=r"vocab.txt or rwkv_vocab_\*.txt"):
        puna.convert(folder, tmp_path / "m.gguf")


def test_another_vocabulary_is_another_source(tmp_path: Path) -> None:
    folder, digests = write_checkpoint(tmp_path / "hf", "rwkv7"), set()
    for text in (worlds.lines(worlds.tokens()), worlds.lines(worlds.tokens()[:300])):
        (folder / "rwkv_vocab_v20230424.txt").write_text(text, "utf-8")
        puna.convert(folder, tmp_path / "m.gguf")
        with puna.open_gguf(tmp_path / "m.gguf") as file:
            digests.add(file.metadata["puna.source.digest"])
    assert len(digests) == 2


def test_the_vocabulary_is_fetched_with_a_checkpoint() -> None:
    names = ["notes.txt", "rwkv_vocab_v20230424.txt", "config.json", "model.safetensors"]
    assert select_files(names) == ["model.safetensors", "config.json", "rwkv_vocab_v20230424.txt"]
