"""The public names, on a tiny model that says the alphabet."""

import gc
import inspect
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import puna
from cli.tiny import CONTEXT, END, HIDDEN, TEMPLATE, metadata, weights, write_tiny
from puna import errors
from puna.formats import write_gguf

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(path):
    return puna.load(path, backend="numpy")


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


def test_every_public_name_is_there_and_sorted():
    constants = [name for name in puna.__all__ if name.isupper()]
    classes = [name for name in puna.__all__ if name[0].isupper() and name not in constants]
    functions = [name for name in puna.__all__ if name[0].islower()]
    assert puna.__all__ == [*sorted(constants), *sorted(classes), *sorted(functions)]
    assert all(getattr(getattr(puna, name), "__name__", name).split(".")[-1] == name for name in puna.__all__)
    assert set(puna.__all__) < set(dir(puna))


def test_every_public_function_shows_its_arguments():
    functions = [name for name in puna.__all__ if name[0].islower() and name != "errors"]
    for name in functions:
        kinds = [p.kind for p in inspect.signature(getattr(puna, name)).parameters.values()]
        assert inspect.Parameter.VAR_POSITIONAL not in kinds, name
        assert (inspect.Parameter.VAR_KEYWORD in kinds) == (name == "render"), name  # variables of a template
    wanted = ["name", "modelfile", "store", "convert", "on_progress", "directory", "link", "quantize", "recipe"]
    assert list(inspect.signature(puna.create).parameters) == [*wanted, "imatrix", "target_size", "target_bpw"]


def test_a_source_in_place_of_a_modelfile_is_told_how_to_be_one(tmp_path):
    with pytest.raises(errors.ModelfileError, match=r"; of a model or a file, 'FROM llama' is a Modelfile$"):
        puna.create("m", "llama", store=puna.Store(tmp_path))


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'puna' has no attribute 'lode'"):
        _ = puna.lode


def test_importing_puna_imports_next_to_nothing():
    code = "import sys; before = set(sys.modules); import puna; print(sorted(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['puna']"


def test_create_is_a_function_and_a_package(path, tmp_path):
    store = puna.Store(tmp_path / "models")
    manifest = puna.create("tiny", f"FROM {path}\nSYSTEM Be brief.\n", store=store)
    assert isinstance(manifest, puna.Manifest)
    assert [name.short for name in store.models()] == ["tiny:latest"]
    assert puna.create.source.find_files.__module__ == "puna.create.source"


def test_a_model_says_what_it_is(model):
    assert repr(model) == "Model('Tiny', arch='llama', context_length=256)"
    assert (model.arch, model.backend, model.context_length) == ("llama", "numpy", CONTEXT)
    assert (model.hparams.n_blocks, model.hparams.hidden_size) == (2, HIDDEN)
    assert model.metadata["general.name"] == "Tiny"
    assert model.tokenizer.decode(model.tokenizer.encode("é z")) == "é z"


def test_a_chat_is_rendered_answered_and_ended_by_the_model(model):
    chunks = list(model.chat(HELLO, temperature=0))
    assert text_of(chunks) == ALPHABET
    assert [chunk.done for chunk in chunks] == [False] * 26 + [True]
    last = chunks[-1]
    assert (last.done_reason, last.stats.prompt_tokens, last.stats.tokens) == ("stop", 24, 27)


def test_the_conversation_goes_on_where_it_is_cached(model):
    first = list(model.chat(HELLO, temperature=0))
    more = [*HELLO, {"role": "assistant", "content": text_of(first)}, {"role": "user", "content": "again"}]
    last = list(model.chat(more, temperature=0))[-1]
    assert last.stats.cached_tokens >= first[-1].stats.prompt_tokens
    assert last.stats.prompt_tokens == 24 + 26 + 1 + 1 + 24


def test_chunks_show_what_is_in_them_only():
    assert repr(puna.Chunk("a", (97,))) == "Chunk(text='a', tokens=(97,))"
    assert repr(puna.Chunk(done=True, done_reason="stop")) == "Chunk(done=True, done_reason='stop')"
    assert str(puna.Chunk("a", (97,))) == "a"


def test_a_prompt_is_continued_as_it_is(model):
    assert text_of(model.generate("abc", temperature=0)) == ALPHABET[3:]
    assert text_of(model.generate([ord("x")], temperature=0)) == "yz"


@pytest.mark.parametrize("temperature", [0, 1.2])
def test_tokens_computed_in_advance_change_no_text_and_no_probability(path, temperature):
    model = puna.load(path, backend="cpu", context_length=CONTEXT)
    options = {"temperature": temperature, "seed": 3, "ignore_eos": True, "logprobs": True}
    one, other = (list(model.generate("abcabcabc", draft_num_predict=n, **options)) for n in (0, 7))
    assert text_of(one) == text_of(other)
    assert [c.logprobs for c in one] == [c.logprobs for c in other]
    assert one[-1].stats.proposed_tokens == 0
    assert other[-1].stats.tokens == one[-1].stats.tokens
    assert other[-1].stats.accepted_tokens <= other[-1].stats.proposed_tokens


def test_num_predict_bounds_the_answer(model):
    chunks = list(model.generate("abc", temperature=0, num_predict=3))
    assert (text_of(chunks), chunks[-1].done_reason) == ("def", "length")


def test_an_answer_that_fills_the_context_ends_there(model):
    chunks = list(model.generate("a" * 250, temperature=0))
    assert (text_of(chunks), chunks[-1].done_reason) == ("bcdefg", "length")


def test_a_stop_string_ends_the_answer_and_is_not_given(model):
    chunks = list(model.generate("a", temperature=0, stop=["gh", "xyz"]))
    assert (text_of(chunks), chunks[-1].done_reason) == ("bcdef", "stop")
    assert text_of(model.generate("a", temperature=0, stop="zebra")) == ALPHABET[1:]


def test_ignore_eos_goes_on_behind_the_end(model):
    chunks = list(model.generate("x", temperature=0, num_predict=5, ignore_eos=True))
    assert [i for chunk in chunks for i in chunk.tokens] == [ord("y"), ord("z"), END, 0, 1]
    assert text_of(chunks) == "yz\0\1"


def test_an_answer_that_ends_inside_a_character_says_so(model):
    before = "é".encode()[0] - 1
    assert text_of(model.generate([before], temperature=0, num_predict=1)) == "\ufffd"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"temprature": 1}, "closest: temperature"), ({"top_p": 2}, "'top_p' is 2"), ({"num_ctx": 9}, "context_length")],
)
def test_a_wrong_option_is_said_at_the_call(model, options, words):
    with pytest.raises(errors.RequestError, match=words):
        model.generate("a", **options)


def test_a_prompt_that_does_not_fit_is_said_at_the_call_with_both_counts(model):
    with pytest.raises(errors.PromptTooLong) as caught:
        model.generate("a" * 300)
    assert (caught.value.tokens, caught.value.limit) == (300, CONTEXT)
    with pytest.raises(errors.RequestError, match="empty"):
        model.generate("")
    with pytest.raises(errors.RequestError, match="token 258 is outside the vocabulary; ids run from 0 to 257"):
        model.generate([258])


def test_one_seed_says_one_text_whatever_else_runs(model):
    def sampled(seed):
        return model.generate("abc", temperature=1.5, seed=seed, num_predict=40, ignore_eos=True)

    alone = [text_of(sampled(seed)) for seed in range(4)]
    assert len(set(alone)) == 4
    together = [""] * 4
    for chunks in itertools.zip_longest(*(sampled(seed) for seed in range(4))):
        together = [text + (chunk.text if chunk else "") for text, chunk in zip(together, chunks, strict=True)]
    assert together == alone


def test_generators_in_turn_keep_to_their_own_texts(model):
    first = model.generate("abc", temperature=0)
    second = model.generate("uv", temperature=0)
    taken = [next(first).text, next(second).text, next(first).text, next(second).text]
    assert taken == ["d", "w", "e", "x"]
    assert text_of(second) == "yz"
    assert text_of(first) == ALPHABET[5:]


def test_the_first_answer_says_how_long_loading_took_even_if_nobody_waited_for_it(path):
    model = puna.load(path, backend="numpy")
    model.prepare(wait=False)
    model._runtime._begun -= 1000  # as if weights had come in for so long while the prompt was typed
    first, second = ([*model.generate("abc", temperature=0)][-1].stats.load_seconds for _ in range(2))
    assert 1000 <= first < 1900
    assert second < 900


def test_threads_share_a_model(path):
    model = puna.load(path, backend="numpy")
    answers = {}

    def answer(letter):
        answers[letter] = text_of(model.generate(letter, temperature=0))

    threads = [threading.Thread(target=answer, args=(letter,)) for letter in "afkpu"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {letter: ALPHABET[ALPHABET.index(letter) + 1 :] for letter in "afkpu"}


@pytest.mark.parametrize("close", ["close", "collect", "stop"])
def test_a_generation_left_early_gives_its_place_back(path, close):
    model = puna.load(path, backend="numpy")
    for _ in range(20):  # more than there is room for
        chunks = model.generate("abc", temperature=0, ignore_eos=True, **({"stop": "d"} if close == "stop" else {}))
        next(chunks)
        if close == "close":
            chunks.close()
        elif close == "collect":
            circle = [chunks]
            circle.append(circle)
            del chunks, circle
            gc.collect()
        else:
            assert list(chunks) == []
    engine = model._runtime.engine
    assert (engine._scheduler.running, list(engine._scheduler.waiting)) == ([], [])
    assert text_of(model.generate("abc", temperature=0)) == ALPHABET[3:]


def test_logprobs_are_those_of_the_logits(model):
    chunks = list(model.generate("abc", temperature=0, num_predict=4, logprobs=True, top_logprobs=3))
    given = [entry for chunk in chunks for entry in chunk.logprobs]
    rows = model.logits([ord(c) for c in "abcdef"])[2:].astype(np.float64)
    expected = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    assert [entry.text for entry in given] == ["d", "e", "f", "g"]
    for entry, row in zip(given, expected, strict=True):
        assert entry.logprob == pytest.approx(row[entry.token], abs=1e-5)
        best = np.argsort(-row)[:3]
        assert [top.token for top in entry.top] == best.tolist()
        assert [top.logprob for top in entry.top] == pytest.approx(row[best].tolist(), abs=1e-5)


def test_logprobs_alone_give_the_chosen_tokens_only(model):
    chunks = list(model.generate("abc", temperature=0, num_predict=1, logprobs=True))
    assert [(entry.token, entry.top) for chunk in chunks for entry in chunk.logprobs] == [(ord("d"), ())]


def test_a_text_is_scored_by_the_logits_behind_each_of_its_tokens(model):
    ids = [ord(c) for c in "abdz"] * 40
    rows = model.logits(ids).astype(np.float64)
    logs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    found = model.score(ids, top=3)
    assert [each.token for each in found] == ids[1:]
    np.testing.assert_allclose([each.logprob for each in found], [logs[i, t] for i, t in enumerate(ids[1:])], rtol=1e-9)
    assert [[top.token for top in each.top] for each in found] == np.argsort(-logs[:-1], kind="stable")[:, :3].tolist()
    assert model.score("ab")[0].text == "b"
    assert model.score("a") == []
    with pytest.raises(errors.PromptTooLong):
        model.score([1] * 1000)


def test_logits_have_a_row_for_each_token_and_leave_nothing_behind(model):
    tokens = [ord(c) for c in "hello"]
    first = model.logits(tokens)
    assert (first.shape, first.dtype) == ((5, 258), np.float32)
    assert [chr(i) for i in first.argmax(1)] == list("ifmmp")
    np.testing.assert_array_equal(model.logits(tokens), first)


def test_embeddings_have_unit_length_and_may_be_cut(model):
    vectors = model.embed(["one text", "another, longer text"])
    assert (vectors.shape, vectors.dtype) == ((2, HIDDEN), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(model.embed("one text")[0], vectors[0], atol=1e-5)
    short = model.embed("one text", dimensions=10)
    np.testing.assert_allclose(short[0], vectors[0, :10] / np.linalg.norm(vectors[0, :10]), atol=1e-5)
    assert model.embed([]).shape == (0, HIDDEN)
    with pytest.raises(errors.RequestError, match=f"this model gives 1 to {HIDDEN}"):
        model.embed("x", dimensions=HIDDEN + 1)


def test_a_text_to_embed_that_does_not_fit_is_cut_only_if_asked(model):
    with pytest.raises(errors.PromptTooLong) as caught:
        model.embed("a" * 300)
    assert (caught.value.tokens, caught.value.limit) == (300, CONTEXT)
    cut = model.embed("a" * 300, truncate=True)
    np.testing.assert_allclose(cut, model.embed("a" * CONTEXT), atol=1e-6)


def test_a_context_length_beyond_the_model_is_refused_and_a_stored_one_is_cut(path, tmp_path, monkeypatch):
    with pytest.raises(errors.ModelError, match="context_length is 512; this model was made for 1 to 256"):
        _ = puna.load(path, context_length=512).context_length
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    puna.create("tiny", f"FROM {path}\nPARAMETER num_ctx 4096\n")
    assert puna.load("tiny").context_length == CONTEXT


def test_render_takes_a_template_or_a_model(path):
    expected = "<|start|>user\nhello<|end|>\n<|start|>assistant\n"
    assert puna.render(str(path), HELLO) == expected
    assert puna.render(TEMPLATE, HELLO) == expected
    assert puna.render("{{ .System }}|{{ .Prompt }}", HELLO) == "|hello"


def test_what_a_modelfile_adds_comes_before_the_conversation(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    text = "{{ range .Messages }}[{{ .Role }} {{ .Content }}]{{ end }}"
    puna.create("m", f'FROM {path}\nTEMPLATE """{text}"""\nSYSTEM be kind\nMESSAGE user hi\nMESSAGE assistant ho\n')
    assert puna.render("m", HELLO) == "[system be kind][user hi][assistant ho][user hello]"
    own = [{"role": "system", "content": "be brief"}, *HELLO]
    assert puna.render("m", own) == "[user hi][assistant ho][system be brief][user hello]"


@pytest.mark.parametrize("stored", [b"{", b"[" * 100_000, b'{"role": "user"}'])
def test_stored_messages_that_are_none_are_one_error(stored, path, tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    puna.create("m", f"FROM {path}")
    store = puna.Store()
    with store.adding() as new:
        manifest = store.manifest("m")
        new.write("m", [*manifest.layers, new.add_bytes("messages", stored)], manifest.config)
    with pytest.raises(errors.StoreError, match="reading the messages of a model: not "):
        puna.load("m")


def test_stored_options_are_the_defaults(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    puna.create("m", f"FROM {path}\nPARAMETER temperature 0\nPARAMETER num_predict 4\nPARAMETER stop c\n")
    model = puna.load("m", backend="numpy")
    assert text_of(model.chat(HELLO)) == "ab"
    assert text_of(model.chat(HELLO, stop=[])) == "abcd"
    assert text_of(model.chat(HELLO, stop=[], num_predict=6)) == "abcdef"


def test_a_name_in_the_store_comes_before_a_folder_of_that_name(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    puna.create("tiny", f"FROM {path}")
    assert puna.load("tiny").arch == "llama"
    with pytest.raises(errors.PunaError, match=r"config\.json"):
        puna.load("./tiny")
    (tmp_path / "tiny" / "one.gguf").symlink_to(path)
    assert puna.load("./tiny").arch == "llama"


@pytest.mark.parametrize("ref", ["./none.gguf", "none.gguf", Path("none"), "none", "no:such/name:x"])
def test_a_reference_that_leads_nowhere_is_one_error(ref, tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    with pytest.raises(errors.ModelNotFound, match=r"no"):
        puna.load(ref)


def test_a_model_without_a_template_cannot_chat_and_says_what_works(tmp_path):
    model = puna.load(write_tiny(tmp_path / "base.gguf", tokenizer__chat_template=""))
    with pytest.raises(errors.TemplateError, match=r"no chat template; generate\(\)"):
        model.chat(HELLO)


def test_a_renderer_takes_the_place_of_every_template(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    puna.create("m", f"FROM {path}\nSYSTEM Be brief.\nRENDERER glm-4.7\nTEMPLATE " + "{{ .Prompt }}\n")
    assert puna.render("m", HELLO) == "[gMASK]<sop><|system|>Be brief.<|user|>hello<|assistant|><think>"


def test_the_middle_is_filled_in_by_the_template_or_by_the_tokens_that_a_vocabulary_has_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    marks = {
        f"tokenizer__ggml__{key}_token_id": ord(c) for key, c in (("prefix", "P"), ("fim_suf", "S"), ("middle", "M"))
    }
    path = write_tiny(tmp_path / "fim.gguf", **marks)
    between = {"prompt": "a", "suffix": "z"}
    assert puna.render(str(path), [], **between) == "PaSzM"
    puna.create("renders", f"FROM {path}\nRENDERER cogito\n")
    assert puna.render("renders", [], **between) == "PaSzM"
    puna.create("told", f"FROM {path}\nTEMPLATE " + "<{{ .Suffix }}<{{ .Prompt }}\n")
    assert puna.render("told", [], **between) == "<z<a"
    plain = write_tiny(tmp_path / "plain.gguf")
    with pytest.raises(errors.TemplateError, match="cannot fill in the middle; leave out suffix"):
        puna.render(str(plain), [], **between)


def test_a_model_that_reads_text_only_refuses_images(path):
    with pytest.raises(errors.RequestError, match="message 1 has an image, and the model reads text only"):
        puna.load(path).chat([*HELLO, {"role": "user", "content": "What is it?", "images": [b"x"]}])


def test_a_renderer_that_nobody_knows_is_one_error(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    puna.create("m", f"FROM {path}\nRENDERER glm-4.8\n")
    with pytest.raises(errors.TemplateError, match=r"'glm-4.8' is unknown; closest: glm-4.7; there are cogito,"):
        puna.render("m", HELLO)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("llama__block_count", 1_000_000_000, "'llama.block_count' is 1000000000"),
        ("llama__embedding_length", 32, "'llama.embedding_length' is 32"),
        ("llama__attention__head_count_kv", 3, "'llama.attention.head_count_kv'"),
        ("tokenizer__ggml__eos_token_id", 5000, "'tokenizer.ggml.eos_token_id' is 5000"),
        ("general__architecture", "lama", "closest by its tensors: llama"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path, key, value, words):
    path = write_tiny(tmp_path / "broken.gguf", **{key: value})
    with pytest.raises(errors.ModelError, match=rf"^broken\.gguf: .*{words}"):
        puna.load(path, backend="numpy").prepare()


def test_a_graph_that_cannot_be_built_is_said_with_the_file_s_name(tmp_path):
    tensors = [(n, t.shape, "F32", t) for n, t in weights().items() if n != "blk.1.ffn_down.weight"]
    tensors.append(("blk.1.ffn_down.weight", (HIDDEN, 7), "F32", np.ones((HIDDEN, 7), np.float32)))
    write_gguf(tmp_path / "broken.gguf", metadata(), tensors)
    with pytest.raises(errors.GraphError, match=r"^broken\.gguf: linear"):
        puna.load(tmp_path / "broken.gguf", backend="numpy").prepare()


def test_what_works_where_a_prompt_does_not_fit_is_said(path, model):
    short = puna.load(path, backend="numpy", context_length=64)
    for call in (model.generate, lambda text: model.logits(list(text.encode()))):
        with pytest.raises(errors.PromptTooLong, match=r"holds 256, the model's maximum; shorten the prompt$"):
            call("a" * 300)
    with pytest.raises(errors.PromptTooLong, match=r"holds 64; shorten .* or raise the context length .* up to 256$"):
        short.generate("a" * 300)
    with pytest.raises(errors.PromptTooLong, match=r"maximum; shorten the prompt or ask for truncation$"):
        model.embed("a" * 300)


def test_an_answer_to_a_prompt_that_opens_thinking_is_thinking(tmp_path):
    text = TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    model = puna.load(write_tiny(tmp_path / "thinks.gguf", tokenizer__chat_template=text), backend="numpy")
    made = list(model.chat(HELLO, temperature=0))
    assert ("".join(chunk.thinking for chunk in made), text_of(made)) == (ALPHABET, "")
    assert made[-1].done_reason == "stop"


def test_the_parser_of_a_modelfile_reads_answers_and_an_unknown_one_leaves_it_to_the_template(
    path, tmp_path, monkeypatch
):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    puna.create("m", f"FROM {path}\nPARSER olmo3-think\nPARAMETER temperature 0\n")
    puna.create("n", f"FROM {path}\nPARSER from-later\nPARAMETER temperature 0\n")
    model = puna.load("m", backend="numpy")
    assert [next(model.chat(HELLO)).thinking, text_of(puna.load("n", backend="numpy").chat(HELLO))] == ["a", ALPHABET]
    assert text_of(model.generate("\n", temperature=0)) == ALPHABET
    assert puna.parse_output("m", "a</think>b").thinking == "a"


def test_tool_calls_come_in_chunks(tmp_path):
    model = puna.load(write_tiny(tmp_path / "tiny.gguf"), backend="numpy")
    call = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    parser = puna.template.parsing.open_parser("hermes")
    parser.push(call[:-1])
    last = list(model.generate(">", parser=parser, temperature=0, num_predict=0))[-1]
    assert [(each.name, each.arguments) for each in last.tool_calls] == [("f", {"a": 1})]


def test_a_chat_calls_one_of_the_tools_that_are_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    path = write_tiny(tmp_path / "t.gguf", llama__context_length=256)
    puna.create("m", f"FROM {path}\nPARSER qwen3-coder\nPARAMETER temperature 0\n")
    tools = [
        {"name": name, "parameters": {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}}
        for name in ("one", "two", "three")
    ]
    asked = {"tools": tools, "parallel_tool_calls": False, "allowed_tools": ["two"]}
    said = [call for chunk in puna.load("m").chat(HELLO, tool_choice="required", **asked) for call in chunk.tool_calls]
    assert [(call.name, call.arguments["n"] in (1, 2)) for call in said] == [("two", True)]
    with pytest.raises(errors.RequestError, match="'four'"):
        puna.load("m").chat(HELLO, tools=tools, allowed_tools=["four"])


def test_what_looks_like_a_tool_call_is_text_where_no_tools_were_offered(tmp_path):
    template = "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}<tool_call>{{ m.tool_calls[0].function | tojson }}</tool_call>{% endif %}{% endfor %}"  # noqa: E501
    model = puna.load(write_tiny(tmp_path / "t.gguf", tokenizer__chat_template=template))
    said = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    parser = model.open_parser()
    assert parser.push(said).content + parser.close().content == said
    offered = model.open_parser(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert [call.name for call in [*offered.push(said).tool_calls, *offered.close().tool_calls]] == ["f"]


def test_a_smaller_model_of_other_words_is_refused_by_what_differs(path, tmp_path):
    words = list(metadata()["tokenizer.ggml.tokens"])
    other = write_tiny(tmp_path / "small.gguf", tokenizer__ggml__tokens=[*words[:5], "other", *words[6:]])
    with pytest.raises(
        errors.ModelError, match=rf"^small.gguf as a draft model: its token 5 is 'other', .* {words[5]!r}"
    ):
        puna.load(path, draft=other)


def test_a_smaller_model_changes_no_text(path):
    alone, other = (puna.load(path, backend="cpu", **more) for more in ({}, {"draft": path}))
    options = {"temperature": 1.0, "seed": 3, "ignore_eos": True, "draft_num_predict": 3}
    assert text_of(other.generate("abc", **options)) == text_of(alone.generate("abc", **options))


def test_a_stored_draft_is_used_and_one_that_cannot_be_is_said_to_be_left_out(path, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    words = list(metadata()["tokenizer.ggml.tokens"])
    small = write_tiny(tmp_path / "small.gguf", general__name="small")
    other = write_tiny(tmp_path / "other.gguf", tokenizer__ggml__tokens=["other", *words[1:]])
    puna.create("m", f"FROM {path}\nDRAFT {small}\n")
    puna.create("n", f"FROM {path}\nDRAFT {other}\n")
    assert puna.load("m")._runtime.draft.opened.metadata["general.name"] == "small"
    model = puna.load("n", backend="numpy")
    assert text_of(model.generate("abc", temperature=0, num_predict=3)) == "def"
    assert model._runtime.draft is None
    assert "its DRAFT is not used" in caplog.text
    assert "its token 0 is 'other'" in caplog.text
