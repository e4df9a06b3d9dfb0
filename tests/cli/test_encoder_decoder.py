"""`puna run` and `puna verify` with a model whose encoder reads the prompt."""

import pytest

import puna as library
from golden.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("models") / "t5", "t5")


def test_run_answers_the_prompt_as_it_is_and_counts_it(puna, t5):
    words = ("run", t5, "hello there", "-p", "num_predict=8", "-p", "temperature=0", "--verbose")
    status, out, err = puna(*words)
    said = library.load(t5).generate("hello there", num_predict=8, temperature=0)
    assert (status, out) == (0, "".join(map(str, said)) + "\n")
    assert f"{len(library.load(t5).tokenizer.encode('hello there'))} tokens, 0 of them cached" in err
    assert puna(*words[:2], "--raw", *words[2:])[:2] == (0, out)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("hi", "--system", "x"), "the model answers a prompt as it is, and there is a message of role system"),
        (("--system", "x"), "no prompt"),
    ],
)
def test_what_is_no_single_prompt_is_refused(puna, t5, words, wrong):
    status, out, err = puna("run", t5, *words)
    assert (status, out) == (1 if "hi" in words else 2, "")
    assert wrong in err


def test_verify_holds_the_blocks_of_encoder_and_decoder(puna, t5, home):
    library.convert(t5, home / "t5.gguf")
    status, out, _ = puna("verify", home / "t5.gguf", "--against", t5)
    assert status == 0
    assert "blocks           ok" in out
