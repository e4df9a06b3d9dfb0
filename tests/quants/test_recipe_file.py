"""Recipe files: which rule decides, and what is wrong with one, with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from puna.errors import ConversionError
from puna.quants.recipe import Recipe, load_recipe, plan_types

Make = Callable[[str], Recipe]


@pytest.fixture
def recipe(tmp_path: Path) -> Make:
    def make(text: str) -> Recipe:
        (tmp_path / "r.toml").write_text(text, "utf-8")
        return load_recipe(tmp_path / "r.toml")

    return make


def plan(
    recipe: Recipe | None, mix: str | None = None, tied: bool = False, columns: int = 256, blocks: int = 16
) -> dict[str, str]:
    tensors = {"token_embd.weight": ((64, 256), "F16"), "output_norm.weight": ((256,), "F32")}
    if not tied:
        tensors["output.weight"] = ((64, 256), "F16")
    for i in range(blocks):
        tensors |= {f"blk.{i}.attn_v.weight": ((8, 256), "F16"), f"blk.{i}.ffn_down.weight": ((8, columns), "F16")}
    return plan_types(tensors, mix, arch="llama", metadata={"llama.block_count": blocks}, recipe=recipe)


def rule(match: str, kind: str, **more: str) -> str:
    pairs = {"match": f"'{match}'", "type": f'"{kind}"', **more}
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in pairs.items())


def blocks_with(types: dict[str, str], part: str, kind: str) -> list[int]:
    return [int(name.split(".")[1]) for name, chosen in types.items() if part in name and chosen == kind]


def test_the_first_rule_that_matches_decides_and_the_mix_does_the_rest(recipe: Make) -> None:
    types = plan(recipe('base = "q4_0"\n' + rule(r"\.3\.attn_v", "q8_0") + rule("attn_v", "Q5_K")))
    assert blocks_with(types, "attn_v", "Q8_0") == [3]
    assert blocks_with(types, "attn_v", "Q5_K") == [i for i in range(16) if i != 3]
    assert blocks_with(types, "ffn_down", "Q4_0") == list(range(16))
    assert (types["token_embd.weight"], types["output.weight"], types["output_norm.weight"]) == ("Q4_0", "Q6_K", "F32")


def test_without_a_mix_what_no_rule_is_about_stays_as_it_is(recipe: Make) -> None:
    types = plan(recipe(rule("attn_v", "Q8_0")))
    assert {types[name] for name in types if "attn_v" in name} == {"Q8_0"}
    assert {types[name] for name in types if "attn_v" not in name} == {"F16", "F32"}


def test_a_mix_that_is_asked_for_takes_the_place_of_the_recipes_own(recipe: Make) -> None:
    types = plan(recipe('base = "Q4_0"\n' + rule("attn_v", "Q8_0")), mix="Q5_0")
    assert blocks_with(types, "ffn_down", "Q5_0") == list(range(16))


@pytest.mark.parametrize(
    ("blocks", "meant"),
    [
        ('"4"', [4]),
        ("4", [4]),
        ('"5-7"', [5, 6, 7]),
        ('"first 2"', [0, 1]),
        ('"last 3"', [13, 14, 15]),
        ('"first 1/8"', [0, 1]),
        ('"last 1/8"', [14, 15]),
        ('"every 5"', [0, 5, 10, 15]),
        ('["first 1/8", "9", "last 1/16", 3]', [0, 1, 3, 9, 15]),
    ],
)
def test_a_rule_may_be_about_some_blocks_only(recipe: Make, blocks: str, meant: list[int]) -> None:
    types = plan(recipe('base = "Q4_0"\n' + rule("attn_v|token_embd", "Q8_0", blocks=blocks)))
    assert blocks_with(types, "attn_v", "Q8_0") == meant
    assert types["token_embd.weight"] == "Q4_0"


def test_output_and_token_embd_have_keys_of_their_own(recipe: Make) -> None:
    both = 'base = "Q4_0"\noutput = "Q8_0"\ntoken_embd = "Q5_K"\n'
    types = plan(recipe(both))
    assert (types["output.weight"], types["token_embd.weight"]) == ("Q8_0", "Q5_K")
    assert plan(recipe(both), tied=True)["token_embd.weight"] == "Q5_K"
    assert plan(recipe('base = "Q4_0"\noutput = "Q8_0"\n'), tied=True)["token_embd.weight"] == "Q8_0"
    assert plan(recipe(both + rule("^output", "Q6_K")))["output.weight"] == "Q6_K"


def test_keep_leaves_a_tensor_as_it_is(recipe: Make) -> None:
    assert blocks_with(plan(recipe('base = "Q4_0"\n' + rule("attn_v", "keep"))), "attn_v", "F16") == list(range(16))


def test_a_type_that_does_not_fit_the_row_is_an_error_or_the_stated_fallback(recipe: Make) -> None:
    with pytest.raises(
        ConversionError,
        match=r"recipe r.toml: line 2: rule 1 \('ffn_down'\): 'blk.0.ffn_down.weight' has rows of 288, no multiple of",
    ):
        plan(recipe('base = "Q4_0"\n' + rule("ffn_down", "Q4_K")), columns=288)
    types = plan(recipe('base = "Q4_0"\n' + rule("ffn_down", "Q4_K", fallback='"q5_1"')), columns=288)
    assert blocks_with(types, "ffn_down", "Q5_1") == list(range(16))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (rule("attn_kv", "Q8_0"), r"line 1: rule 1 \('attn_kv'\) matches no tensor of the model; "),
        (
            "\n" + rule("output_norm", "Q8_0"),
            r"line 2: rule 1 .* matches only tensors that keep their type, such as 'ou",
        ),
        (
            rule("attn", "Q8_0") + "\n" + rule("attn_v", "Q4_0"),
            r"line 5: rule 2 .* decides nothing: the rules before it",
        ),
        (
            rule("attn_v", "Q8_0", blocks='"20-30"'),
            "rule 1 .* matches no tensor in the blocks that it names: the model has 16 blocks, 0 to 15; 'last 2' or",
        ),
        (rule("attn_v", "IQ2_XXS"), "'blk.0.attn_v.weight' as IQ2_XXS needs importance"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_named(recipe: Make, text: str, problem: str) -> None:
    with pytest.raises(ConversionError, match=problem):
        plan(recipe(text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('base = "Q4_0"\noutput = \n', r"reading recipe r.toml: .*at line 2"),
        ('base = "Q9"', "recipe r.toml: base: quantize: file type 'Q9' is unknown"),
        ("base = 4", "recipe r.toml: 'base' is 4; a text is needed"),
        ('bas = "Q4_0"', "recipe r.toml: the key 'bas' is unknown; base, output, token_embd, rule would work"),
        ("rule = 3", r"'rule' is not a list of tables; \[\[rule\]\] begins each"),
        ("rule = [3]", "rule 1 is 3"),
        (rule("a", "Q4_0", when='"now"'), r"line 1: rule 1 \('a'\): the key 'when' is unknown"),
        ('\n\n[[rule]]\nmatch = "a"\n', r"line 3: rule 1 \('a'\): 'type' is None; a text is needed"),
        (rule("(", "Q4_0"), r"rule 1 \('\('\): 'match' is no regular expression: "),
        (rule("a", "Q4"), "type 'Q4' is unknown; keep, F32, F16, .* would work"),
        (rule("a", "Q8_K"), "type 'Q8_K' is unknown"),
        (rule("a", "Q4_0", fallback='"no"'), "fallback 'no' is unknown"),
        (rule("a", "Q4_0", blocks='"some"'), "blocks 'some' is not like 4, 5-7, first 2, last 1/8 or every 3"),
        ('output = "Q7"', "recipe r.toml: output 'Q7' is unknown"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told_with_its_place(recipe: Make, text: str, problem: str) -> None:
    with pytest.raises(ConversionError, match=problem):
        recipe(text)


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConversionError, match=r"reading recipe r.toml: .*; a TOML file is needed"):
        load_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize(("blocks", "said"), [(3, "3 blocks, 0 to 2"), (1, "1 block")])
def test_blocks_that_the_model_does_not_have_are_answered_with_those_it_has(
    recipe: Make, blocks: int, said: str
) -> None:
    with pytest.raises(ConversionError, match=f"line 2: rule 1 .*: the model has {said}; 'last 2' or 'first 1/4'"):
        plan(recipe('base = "Q4_0"\n' + rule("attn_v", "Q8_0", blocks='"9-12"')), blocks=blocks)


@pytest.mark.parametrize("text", ["", "# base = 'Q4_0'\n", "rule = []\n"])
def test_a_recipe_that_says_nothing_is_an_error(recipe: Make, text: str) -> None:
    with pytest.raises(
        ConversionError, match=r'recipe r.toml: it is empty, nothing would change; base = "Q4_K_M" or a'
    ):
        recipe(text)
