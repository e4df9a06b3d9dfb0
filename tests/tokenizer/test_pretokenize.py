import pytest

from puna.tokenizer.pretokenize import SCHEMES, find_scheme, find_split

LINE = "I'll PAY $1234.50 for\n\n  Ünïcode, don't\tyou?  "


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("gpt-2", "I|'ll| PAY| $|1234|.|50| for|\n\n | Ünïcode|,| don|'t|\t|you|?|  "),
        ("smollm", "I|'ll| PAY| $|1|2|3|4|.|5|0| for|\n\n | Ünïcode|,| don|'t|\t|you|?|  "),
        ("llama-bpe", "I|'ll| PAY| $|123|4|.|50| for|\n\n| | Ünïcode|,| don|'t|\tyou|?|  "),
        ("qwen2", "I|'ll| PAY| $|1|2|3|4|.|5|0| for|\n\n| | Ünïcode|,| don|'t|\tyou|?|  "),
        ("tekken", "I|'ll| PAY| $|1|2|3|4|.|5|0| for|\n\n| | Ünïcode|,| don|'t|\tyou|?|  "),
        ("deepseek-coder", "I|'|ll| PAY| $|1|2|3|4|.|5|0| for|\n|\n| | Ünïcode|,| don|'|t|\tyou|?|  "),
    ],
)
def test_a_line_is_split_as_the_scheme_says(name, pieces):
    assert find_split(find_scheme(name).patterns)(LINE) == pieces.split("|")


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_only_cuts(name):
    split = find_split(find_scheme(name).patterns)
    for text in (LINE, "", "請考试 12345 กขค \U0001f600\u200d", "a" * 50 + "\r\n" * 5, "\0\x7f"):
        assert "".join(split(text)) == text
        assert "" not in split(text)


def test_a_hundred_thousand_spaces_are_split_in_a_moment():
    assert sum(map(len, find_split(find_scheme("llama-bpe").patterns)(" " * 100_000 + "x"))) == 100_001
