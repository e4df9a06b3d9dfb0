"""Conversion of a random checkpoint of Llama-3.2-1B's shape: seconds and peak memory, whole processes, cache warm.

Against cp of the same bytes, llama.cpp's convert script (--script) and its quantizer (llama-cpp-python in --peer).
Rounds alternate between all of them. Puna syncs what it writes to the disk before it takes its name; cp does not, so cp
followed by a sync stands beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

HIDDEN, FFN, BLOCKS, HEADS, KV_HEADS, VOCAB = 2048, 8192, 16, 32, 8, 128256
KV = HIDDEN * KV_HEADS // HEADS
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HIDDEN // HEADS,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
QUANTIZE = """
import sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.nthread, params.ftype = int(sys.argv[4]), int(sys.argv[3])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
"""
START = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - begun, usage.ru_maxrss)
sys.exit(status != 0)
"""
FILE_TYPES = {"Q8_0": 7, "Q4_K_M": 15}


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for block in range(BLOCKS):
        found |= {f"model.layers.{block}.{name}.weight": shape for name, shape in SHAPES.items()}
    return found | {"model.norm.weight": (HIDDEN,)}


def write_checkpoint(folder: Path) -> None:
    """Normally distributed bfloat16 weights, the same every time, and a small SentencePiece vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    _write_tokenizer(folder)
    header, at = {}, 0
    for name, shape in shapes().items():
        nbytes = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng, partial = np.random.default_rng(1), folder / "partial"
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, at, 1 << 25):
            values = rng.standard_normal(min(1 << 25, at - start) // 2, np.float32) * np.float32(0.02)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16))
    partial.rename(folder / "model.safetensors")


def _write_tokenizer(folder: Path) -> None:
    import sentencepiece

    (folder / "text").write_text("\n".join(f"line {i} of a text to learn from" for i in range(500)), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "tokenizer"), vocab_size=300, byte_fallback=True,
        model_type="bpe", minloglevel=2,
    )  # fmt: skip


def run(command: list[str]) -> tuple[float, float]:
    """Seconds, and the peak of memory in MB, of a process that has to succeed; started by one that is small itself."""
    done = subprocess.run([sys.executable, "-S", "-c", START, *command], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)[:200]}: {done.stderr[-2000:]}")
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory) / 1024


def works(model: Path, folder: Path, script: Path | None, peer: Path | None, threads: int) -> dict[str, list[str]]:
    """The commands that are measured, by name."""
    puna, weights = [sys.executable, "-m", "puna", "convert"], model / "model.safetensors"
    source, limit = folder / "bf16.gguf", ["-t", str(threads)]
    found = {
        "cp": ["cp", str(weights), str(folder / "copy")],
        "cp and sync": ["sh", "-c", f"cp {weights} {folder}/copy && sync {folder}/copy"],
        "puna bf16": [*puna, str(model), str(folder / "out.gguf"), *limit],
    }
    if script:
        python = str(peer / "bin/python") if peer else sys.executable
        found["script bf16"] = [python, str(script), str(model), "--outtype", "bf16", "--outfile", f"{folder}/out.gguf"]
    for mix, number in FILE_TYPES.items():
        found[f"puna {mix}"] = [*puna, str(source), str(folder / "out.gguf"), "-q", mix, *limit]
        if peer:
            words = [str(source), str(folder / "out.gguf"), str(number), str(threads)]
            found[f"llama.cpp {mix}"] = [str(peer / "bin/python"), "-c", QUANTIZE, *words]
    return found


def measure(commands: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            os.sync()
            results[name].append(run(command))
            for made in ("out.gguf", "copy"):
                (folder / made).unlink(missing_ok=True)
    return results


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/tmp/puna-bench"), show_default=True)
@click.option("--script", type=click.Path(path_type=Path), help="llama.cpp's convert_hf_to_gguf.py.")
@click.option("--script-python", type=click.Path(path_type=Path), help="A Python with what the script needs.")
@click.option("--peer", type=click.Path(path_type=Path), help="An environment with llama-cpp-python.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=os.cpu_count() or 1, show_default=True)
@click.option("--only", multiple=True, help="Names to measure; by default all.")
@click.option("--keep", is_flag=True, help="Leave the checkpoint for the next time.")
def command(
    folder: Path, script: Path | None, script_python: Path | None, peer: Path | None, rounds: int, threads: int,
    only: tuple[str, ...], keep: bool,
) -> None:  # fmt: skip
    """Seconds and peak memory of converting and quantizing 2.5 GB, and of cp."""
    model, source = folder / "model", folder / "bf16.gguf"
    if not (model / "model.safetensors").exists():
        write_checkpoint(model)
    if not source.exists():
        run([sys.executable, "-m", "puna", "convert", str(model), str(source)])
    commands = works(model, folder, script, peer, threads)
    if script and script_python:
        commands["script bf16"][0] = str(script_python)
    commands = {name: words for name, words in commands.items() if not only or name in only}
    for name, runs in measure(commands, folder, rounds).items():
        seconds, memory = [each[0] for each in runs], max(each[1] for each in runs)
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        click.echo(f"{name:18} {statistics.median(seconds):7.2f} s {spread:20} {memory:8.0f} MB")
    if not keep:
        shutil.rmtree(folder)
