"""docs/quantization.md says what is true: types, mixes, and a recipe that works."""

import re
from pathlib import Path

from puna.quants import CODECS
from puna.quants.mixes import FILE_TYPES, NEED_IMPORTANCE
from puna.quants.recipe import load_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "quantization.md").read_text("utf-8")
ROW = re.compile(r"^\| (\w+) \| ([\d.]+) \| (\d+) \| (yes|needs it|) ?\|", re.MULTILINE)


def test_the_table_of_types_is_that_of_the_codecs() -> None:
    listed = {name: (float(bits), int(block), use) for name, bits, block, use in ROW.findall(PAGE)}
    assert listed == {
        name: (
            codec.dtype.bits,
            codec.dtype.block_size,
            "needs it" if name in NEED_IMPORTANCE else "yes" if codec.weighted else "",
        )
        for name, codec in CODECS.items()
        if codec.encodes
    }


def test_the_table_of_mixes_has_every_one() -> None:
    table = PAGE.split("## Mixes")[1].split("`MXFP4_MOE` stores")[0]
    assert set(FILE_TYPES) - {"F32"} == set(re.findall(r"[|,] ([A-Z]+\d\w*)", table))


def test_the_recipe_is_one(tmp_path: Path) -> None:
    text = PAGE.split("```toml\n")[1].split("```")[0]
    (tmp_path / "r.toml").write_text(text, "utf-8")
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.base == "Q4_K_M"
    assert [rule.type for rule in recipe.rules] == ["Q5_K", "Q6_K", "keep"]
    assert {name: rule.type for name, rule in recipe.ends.items()} == {"output": "Q8_0", "token_embd": "Q6_K"}
