"""Sequences with adapters of their own, in one engine: what each says does not depend on the others."""

import gc
import weakref
from functools import cache

import numpy as np
import pytest

import puna
from arch.loras import random_adapter
from cli.tiny import metadata, weights, write_tiny
from create.adapters import matrices, peft_tensors, write_peft
from create.test_adapter_layers import write_lora
from puna import arch as archs
from puna import quants
from puna.backends import open_backend
from puna.cache import BLOCK
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.engine.prefix import load_prefix, save_prefix
from puna.engine.runner import Runner
from puna.engine.sampler import Sampling
from puna.engine.scheduler import Scheduler
from puna.errors import ModelError, RequestError
from puna.formats import write_gguf
from puna.opened import open_model

CONTEXT, LIMIT = 256, 10
GREEDY = Sampling(temperature=0.0)
CHOSEN = [(), ((1, 1.0),), ((2, 1.0),), ((3, 1.0),), ((1, 0.5),), ((1, 1.0), (2, 1.0))]


@pytest.fixture(scope="module", params=["F32", "Q8_0", "Q4_K"])
def model(request, tmp_path_factory):
    path, tensors, rng = tmp_path_factory.mktemp("chosen") / "m.gguf", [], np.random.default_rng(7)
    sizes = {"llama.embedding_length": 256, "llama.feed_forward_length": 256, "llama.attention.head_count": 4}
    for name, values in weights().items():
        shape = tuple(256 if n in (64, 96) or (n == 32) else n for n in values.shape)
        made = rng.standard_normal(shape).astype(np.float32) * 0.15 if values.ndim == 2 else np.ones(shape, np.float32)
        stored = request.param if values.ndim == 2 else "F32"
        tensors.append((name, shape, stored, quants.quantize(made, stored)))
    write_gguf(path, metadata(**sizes, **{"llama.attention.head_count_kv": 4}), tensors)
    return path


opened_at = cache(open_model)


def engine(path, backend="cpu", *, threads=2, tokens=64, blocks=80, sequences=20):
    opened, arch, made = opened_at(path), archs.find("llama"), open_backend(backend, threads=threads)
    size = Limits(
        slots=blocks * BLOCK, states=0, tokens=tokens, outputs=32, sequences=sequences, table=CONTEXT // BLOCK
    )
    hp = arch.hparams.from_gguf("llama", opened.metadata)
    result = Engine(Runner(arch, hp, opened.tensors, made, made.load(opened.tensors), size, "f32"), CONTEXT)
    for seed, rank, kind in ((1, 4, "F32"), (2, 16, "F16"), (3, 7, "F32")):
        result.choosing.add(random_adapter(opened, seed, rank, kind))
    return result


def jobs():
    """Prompts that begin alike, in pairs and with each choice of adapters."""
    rng = np.random.default_rng(2)
    common = rng.integers(0, 256, 250).tolist()
    lengths = [3, 70, 130, 17, 64, 129, 90, 31, 150, 66, 1, 100]
    return [(common[:n], CHOSEN[i % len(CHOSEN)]) for i, n in enumerate(lengths)]


def said(made, several):
    sequences = [made.submit(prompt, GREEDY, limit=LIMIT, adapters=chosen) for prompt, chosen in several]
    while any(sequence.reason is None for sequence in sequences):
        made.step()
    return [[choice.token for choice in sequence.choices] for sequence in sequences], sequences


@cache
def alone(path):
    """Each by itself, from an empty cache."""
    runner = engine(path, threads=1, tokens=CONTEXT, blocks=4, sequences=1)._runner
    runner.choosing.ready(CHOSEN[-1])  # the same program, whoever asks
    answers = [said(Engine(runner, CONTEXT), [job])[0][0] for job in jobs()]
    assert len({tuple(answer) for answer in answers}) > 8
    return answers


def test_a_sequence_says_the_same_alone_and_among_others_with_other_adapters(model):
    for threads, tokens in ((1, 64), (3, 250)):
        assert said(engine(model, threads=threads, tokens=tokens), jobs())[0] == alone(model)


def test_who_comes_and_goes_meanwhile_changes_nothing(model):
    made, waiting, sequences = engine(model), jobs(), []
    while waiting or any(sequence.reason is None for sequence in sequences):
        if waiting:
            prompt, chosen = waiting.pop(0)
            sequences.append(made.submit(prompt, GREEDY, limit=LIMIT, adapters=chosen))
        made.step()
    assert [[choice.token for choice in sequence.choices] for sequence in sequences] == alone(model)


def test_a_sequence_that_lost_its_blocks_says_the_same(model, monkeypatch):
    lost, give_up = [], Scheduler._preempt
    monkeypatch.setattr(Scheduler, "_preempt", lambda self, s: lost.append(s.held.key) or give_up(self, s))
    several = [([i, *jobs()[8][0][:59]], chosen) for i, chosen in enumerate(CHOSEN)]  # each needs a second block soon
    runner = engine(model)._runner
    expected = [said(Engine(runner, CONTEXT), [job])[0][0] for job in several]
    assert said(engine(model, blocks=9), several)[0] == expected
    assert any(lost)


def test_what_was_computed_with_an_adapter_is_for_those_with_the_same(model):
    made = engine(model)
    prompt, plain = jobs()[8][0], 2 * BLOCK
    answers = {chosen: said(made, [(prompt, chosen)]) for chosen in CHOSEN}
    assert [sequences[0].cached for _, sequences in answers.values()] == [0] * len(CHOSEN)
    for chosen, (first, _) in answers.items():
        again, sequences = said(made, [(prompt, chosen)])
        assert again == first
        assert sequences[0].cached >= plain
    assert said(made, [(prompt, ((1, 0.75),))])[1][0].cached == 0


def test_what_follows_and_what_is_saved_is_of_the_adapters_that_are_always_there(model, tmp_path):
    chosen, prompt = ((1, 8.0),), jobs()[8][0]
    made = engine(model)
    (row,) = made.having(chosen).following([prompt])
    np.testing.assert_array_equal(row, made.forward(prompt, last=True, adapters=chosen)[0])
    assert np.abs(row - made.following([prompt])[0]).max() > 0.01
    save_prefix(made.having(chosen), tmp_path / "saved", prompt, {})
    other = engine(model)
    with pytest.raises(RequestError, match="it was saved with weights"):
        load_prefix(other, tmp_path / "saved", {})
    load_prefix(other.having(chosen), tmp_path / "saved", {})
    cached = [said(other, [([*prompt, 1], adapters)])[1][0].cached for adapters in ((), chosen)]
    assert cached == [0, len(prompt)]


def test_numpy_says_the_same_as_each_alone(model):
    several, runner = jobs()[:6], engine(model, "numpy")._runner
    assert said(Engine(runner, CONTEXT), several)[0] == [said(Engine(runner, CONTEXT), [job])[0][0] for job in several]


def test_a_step_without_adapters_runs_the_plain_program(model, monkeypatch):
    made = engine(model)
    monkeypatch.setattr(made.choosing, "run", None)  # nobody asks for it
    assert said(made, [jobs()[0], jobs()[6]])[0] == [alone(model)[0], alone(model)[6]]


def test_adapters_join_while_others_are_in_use_and_share_the_memory_of_all(model):
    made = engine(model)
    first = made.submit(*jobs()[1][:1], GREEDY, limit=LIMIT, adapters=((1, 1.0),))
    for _ in range(4):
        made.step()
    before = made.choosing.ready(((1, 1.0),)).program
    assert made.choosing.add(random_adapter(opened_at(model), 4, 9)) == 4
    fourth = made.submit(jobs()[2][0], GREEDY, limit=LIMIT, adapters=((4, 1.0),))
    assert made.choosing.ready(((1, 1.0),)).program is not before
    while first.reason is None or fourth.reason is None:
        made.step()
    assert [choice.token for choice in first.choices] == alone(model)[1]


# ---- by name, in the library ---------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    write_tiny(tmp_path / "tiny.gguf")
    for seed in (1, 2):
        write_lora(tmp_path / f"{seed}.gguf", seed)
    return tmp_path


IDS = [97, 98, 99, 100]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_model_has_adapters_at_hand_by_name(tiny, backend):
    model = puna.load(tiny / "tiny.gguf", backend=backend, kv_type="f32")
    plain = model.logits(IDS).copy()
    model.add_adapter("one", tiny / "1.gguf")
    saved = write_peft(
        tiny / "peft",
        peft_tensors({"model.layers.1.mlp.up_proj": matrices(weights()["blk.1.ffn_up.weight"].shape, 3, 2)}),
        r=3,
        lora_alpha=6,
    )
    model.add_adapter("two", saved)
    for chosen in ({"one": 1.0}, {"two": -0.5}, {"two": 1.0, "one": 0.25}):
        files = {"one": tiny / "1.gguf", "two": tiny / "2.gguf"}
        loaded = [(files[name], factor) for name, factor in chosen.items()]
        want = puna.load(tiny / "tiny.gguf", backend=backend, kv_type="f32", adapters=loaded).logits(IDS)
        np.testing.assert_allclose(model.logits(IDS, adapters=chosen), want, rtol=1e-4, atol=1e-4)
        assert np.abs(want - plain).max() > 0.1
    np.testing.assert_array_equal(model.logits(IDS), plain)
    np.testing.assert_array_equal(model.logits(IDS, adapters={"one": 0}), plain)
    np.testing.assert_array_equal(model.logits(IDS, adapters="one"), model.logits(IDS, adapters=["one"]))


def test_an_adapter_that_is_chosen_comes_on_top_of_those_of_the_model(tiny):
    model = puna.load(tiny / "tiny.gguf", backend="cpu", kv_type="f32", adapters=[tiny / "1.gguf"])
    model.add_adapter("two", tiny / "2.gguf")
    both = puna.load(tiny / "tiny.gguf", backend="cpu", kv_type="f32", adapters=[tiny / "1.gguf", tiny / "2.gguf"])
    np.testing.assert_allclose(model.logits(IDS, adapters="two"), both.logits(IDS), rtol=1e-4, atol=1e-4)


def test_answers_have_the_adapters_that_they_ask_for(tiny):
    model = puna.load(tiny / "tiny.gguf", backend="cpu")
    model.add_adapter("one", tiny / "1.gguf")
    options = {"temperature": 1.0, "seed": 4, "num_predict": 20, "ignore_eos": True}

    def text(answer):
        return "".join(chunk.text for chunk in answer)

    alone = puna.load(tiny / "tiny.gguf", backend="cpu", adapters=[(tiny / "1.gguf", 8.0)])
    changed = text(model.generate("abc", adapters={"one": 8.0}, **options))
    assert changed == text(alone.generate("abc", **options)) != text(model.generate("abc", **options))
    messages = [{"role": "user", "content": "abc"}]
    assert text(model.chat(messages, adapters={"one": 8.0}, **options)) == text(alone.chat(messages, **options))


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("three", r"adapter 'three' is unknown; known: one"),
        ({"one": "much"}, r"adapter 'one': its factor is 'much'; a number would work"),
        ({"one": float("nan")}, "its factor is nan"),
        ({"one": True}, "its factor is True"),
    ],
)
def test_a_choice_that_makes_no_sense_is_an_error(tiny, chosen, said):
    model = puna.load(tiny / "tiny.gguf", backend="cpu")
    with pytest.raises(RequestError, match=r"'one' is unknown; add_adapter\(\) makes one known"):
        model.generate("abc", adapters="one")
    model.add_adapter("one", tiny / "1.gguf")
    with pytest.raises(RequestError, match=said):
        model.generate("abc", adapters=chosen)


def test_an_adapter_that_cannot_be_chosen_says_why(tiny):
    model = puna.load(tiny / "tiny.gguf", backend="cpu")
    model.add_adapter("one", tiny / "1.gguf")
    with pytest.raises(ModelError, match="the name 'one' is taken; another works"):
        model.add_adapter("one", tiny / "2.gguf")
    with pytest.raises(ModelError, match=r"elsewhere\.gguf: the base has no tensor 'blk\.9"):
        model.add_adapter("two", write_lora(tiny / "elsewhere.gguf", 1, "blk.9.ffn_up.weight"))
    a, b = matrices(weights()["blk.1.ffn_up.weight"].shape, 3, 1)
    parts = [("blk.1.ffn_up.weight.lora_a", a.shape, "F32", a), ("blk.1.ffn_up.weight.lora_b", b.shape, "F32", b)]
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    norm = np.ones(64, np.float32)
    write_gguf(tiny / "norm.gguf", keys, [*parts, ("output_norm.weight", norm.shape, "F32", norm)])
    with pytest.raises(ModelError, match=r"replaces 'output_norm\.weight' as a whole, so requests cannot choose it"):
        model.add_adapter("norm", tiny / "norm.gguf")
    module = "model.layers.1.mlp.up_proj"
    tensors = peft_tensors({module: (a, b)})
    tensors |= {f"base_model.model.{module}.lora_magnitude_vector": np.ones(96, np.float32)}
    with pytest.raises(ModelError, match="DoRA, which is no sum"):
        model.add_adapter("dora", write_peft(tiny / "dora", tensors, r=3, lora_alpha=6, use_dora=True))
    assert model.logits(IDS, adapters="one").shape == (4, 258)


def test_weights_of_adapters_are_expected_to_take_memory(tiny):
    model = tiny / "tiny.gguf"
    plain, with_one = (puna.load(model, adapters=a)._runtime.expected_bytes() for a in ([], [tiny / "1.gguf"]))
    assert with_one - plain == (tiny / "1.gguf").stat().st_size > 4 * 3 * (64 + 96)


def test_an_adapter_that_is_removed_is_gone_and_its_name_free(tiny):
    model = puna.load(tiny / "tiny.gguf", backend="cpu", kv_type="f32")
    plain, vectors = model.logits(IDS).copy(), model.embed(["abc"])
    for name in ("one", "two"):
        model.add_adapter(name, tiny / f"{1 if name == 'one' else 2}.gguf")
    one, two = (model.logits(IDS, adapters=name).copy() for name in ("one", "two"))
    assert not np.array_equal(model.embed(["abc"], adapters="two"), vectors)
    model.remove_adapter("one")
    with pytest.raises(RequestError, match="adapter 'one' is unknown; known: two"):
        model.logits(IDS, adapters="one")
    with pytest.raises(RequestError, match="adapter 'one' is unknown; known: two"):
        model.remove_adapter("one")
    np.testing.assert_array_equal(model.logits(IDS, adapters="two"), two)
    model.add_adapter("one", tiny / "2.gguf")
    np.testing.assert_array_equal(model.logits(IDS, adapters="one"), two)
    np.testing.assert_array_equal(model.embed(["abc"], adapters="one"), model.embed(["abc"], adapters="two"))
    for name in ("one", "two"):
        model.remove_adapter(name)
    np.testing.assert_array_equal(model.logits(IDS), plain)
    np.testing.assert_array_equal(model.embed(["abc"]), vectors)
    model.add_adapter("one", tiny / "1.gguf")
    np.testing.assert_array_equal(model.logits(IDS, adapters="one"), one)


def test_what_was_said_before_with_an_adapter_that_is_gone_is_not_gone_on_from(tiny):
    model = puna.load(tiny / "tiny.gguf", backend="cpu")
    prompt, options = list(range(40, 240)), {"temperature": 0.0, "num_predict": 8, "ignore_eos": True}
    said = []
    for number in (1, 2):
        model.add_adapter("one", tiny / f"{number}.gguf")
        *chunks, last = model.generate(prompt, adapters={"one": 8.0}, **options)
        assert last.stats.cached_tokens == 0
        said.append([token for chunk in (*chunks, last) for token in chunk.tokens])
        model.remove_adapter("one")
    assert said[0] != said[1]


def test_an_adapter_that_an_answer_has_stays_until_it_ends(tiny):
    model = puna.load(tiny / "tiny.gguf", backend="cpu")
    model.add_adapter("one", tiny / "1.gguf")
    answer = model.generate("abc", adapters="one", num_predict=200, ignore_eos=True)
    next(answer)
    with pytest.raises(RequestError, match=r"removing the adapter 'one': answers under way have it \(1\); once"):
        model.remove_adapter("one")
    answer.close()
    model.remove_adapter("one")
    assert model.logits(IDS).shape == (4, 258)


def test_the_memory_of_an_adapter_that_is_removed_is_free_at_once(model):
    opened, made = opened_at(model), engine(model)
    adapter = random_adapter(opened, 9, 4)
    number, kept = made.choosing.add(adapter), weakref.ref(adapter)
    assert number == 4
    list(made.tokens(made.submit([1, 2, 3], GREEDY, limit=2, adapters=((4, 1.0),))))
    del adapter
    assert kept() is not None
    made.drop(4)
    gc.collect()
    assert kept() is None
    with pytest.raises(RequestError, match=r"adapter 4: it is not there, or no longer; there are \[1, 2, 3\]"):
        made.submit([1, 2, 3], GREEDY, adapters=((4, 1.0),))
