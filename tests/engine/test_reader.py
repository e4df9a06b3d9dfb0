"""Encoder-decoders in the engine: each sequence answers a text of its own, whatever runs beside it or ran before."""

import numpy as np
import pytest

import puna
from golden.checkpoints import write_checkpoint
from puna import arch as archs
from puna.backends import open_backend
from puna.cache import BLOCK
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.engine.reader import Reader
from puna.engine.runner import Runner
from puna.engine.sampler import Sampling
from puna.errors import PromptTooLong, RequestError
from puna.opened import open_model

CASES = ("umt5", "bart")
CONTEXT = 4 * BLOCK
GREEDY = Sampling(temperature=0.0, top_logprobs=0)
LENGTHS = (150, 3, 64, 200, 128, 90, 65, 1)


@pytest.fixture(scope="module", params=CASES)
def opened(request, tmp_path_factory):
    return open_model(write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


def engine(opened, *, blocks=64, threads=2):
    arch, made = archs.find(opened.metadata["general.architecture"]), open_backend("cpu", threads=threads)
    hp = arch.hparams.from_gguf(arch.name, opened.metadata)
    size = Limits(slots=blocks * BLOCK, states=0, tokens=96, outputs=16, sequences=8, table=CONTEXT // BLOCK)
    parts = (arch, hp, opened.tensors, made, made.load(opened.tensors))
    runner = Runner(*parts, size, "f32")
    return Engine(runner, CONTEXT, reader=Reader(*parts, runner, "f32"))


def texts():
    rng = np.random.default_rng(4)
    return [rng.integers(0, 316, n).tolist() for n in LENGTHS]


def said(made, several, limit=9):
    sequences = [made.submit([0], GREEDY, limit=limit, text=text) for text in several]
    while any(sequence.reason is None for sequence in sequences):
        made.step()
    assert not any(sequence.cached for sequence in sequences)
    return [[(c.token, c.logprob) for c in s.choices] for s in sequences]


def test_a_crowd_says_what_each_says_alone(opened):
    alone = [said(engine(opened, threads=1), [text])[0] for text in texts()]
    assert len({tuple(answer) for answer in alone}) == len(alone)
    made = engine(opened)
    for _ in range(2):  # the second time, among what the first has left
        assert said(made, texts()) == alone


def test_who_gave_up_its_room_has_its_text_read_again(opened):
    several = [text for text in texts() if len(text) > BLOCK]
    alone = [said(engine(opened), [text], limit=80)[0] for text in several]
    made, reads = engine(opened, blocks=12), []  # for texts 3 + 4 + 2 + 2 + 2 and for answers 2 each
    read = made._reader.read
    made._reader.read = lambda tokens, blocks: reads.append(tokens) or read(tokens, blocks)
    assert said(made, several, limit=80) == alone
    assert len(reads) > len(several)


def test_results_of_every_token_are_those_of_one_step_after_the_other(opened):
    text, ids = texts()[0], [0, 5, 9, 200, 31]
    whole = engine(opened).forward(ids, text=text)
    assert np.array_equal(whole[-1:], engine(opened).forward(ids, last=True, text=text))
    other = engine(opened).forward(ids, text=texts()[1])
    assert np.abs(whole - other).max() > 1e-3 * np.abs(whole).max()


def test_a_text_is_needed_and_fits_a_context(opened):
    made = engine(opened)
    with pytest.raises(RequestError, match="has 0 tokens"):
        made.submit([0], GREEDY)
    with pytest.raises(PromptTooLong, match=r"257.*256"):
        made.submit([0], GREEDY, text=[5] * (CONTEXT + 1))
    assert len(said(made, [[5] * CONTEXT])[0]) == 9


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return puna.load(write_checkpoint(tmp_path_factory.mktemp("model"), "t5"), kv_type="f32")


def test_a_model_answers_its_prompt_and_counts_it(model):
    ids = [5, 9, 200, 31, 7]
    *_, last = chunks = list(model.generate(ids, temperature=0, num_predict=4, ignore_eos=True))
    tokens = [token for chunk in chunks for token in chunk.tokens]
    greedy = [0]
    for _ in range(4):
        greedy.append(int(model.logits(greedy, text=ids)[-1].argmax()))
    assert tokens == greedy[1:]
    assert (last.stats.prompt_tokens, last.stats.cached_tokens, last.stats.tokens) == (5, 0, 4)


def test_a_prompt_may_be_as_long_as_the_context_and_no_longer(model):
    assert len(list(model.generate([5] * 512, num_predict=1, ignore_eos=True))) > 0
    with pytest.raises(PromptTooLong, match=r"513.*512"):
        model.generate([5] * 513)
    with pytest.raises(PromptTooLong, match=r"513.*512"):
        model.logits([0], text=[5] * 513)


def test_what_has_no_text_to_read_says_so(model):
    with pytest.raises(RequestError, match="has 0 tokens"):
        model.logits([0, 1])
    for refused in (lambda: model.embed("a"), lambda: model.imatrix("a"), lambda: model.rerank("a", ["b"])):
        with pytest.raises(RequestError, match="'t5' is an encoder-decoder"):
            refused()


def test_without_a_template_one_message_of_the_user_is_the_prompt(model):
    asked = {"role": "user", "content": "hello there"}
    options = {"temperature": 0, "num_predict": 4, "ignore_eos": True}
    said = [chunk.tokens for chunk in model.chat([asked], **options)]
    assert said == [chunk.tokens for chunk in model.generate("hello there", **options)]
    for several in ([asked, asked], [{"role": "system", "content": "x"}, asked], []):
        with pytest.raises(RequestError, match="one message of the user"):
            model.chat(several)
    with pytest.raises(RequestError, match="a message of role user, tools"):
        model.chat([asked], tools=[{"type": "function", "function": {"name": "f"}}])
