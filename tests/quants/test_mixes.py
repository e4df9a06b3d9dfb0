"""The IQ, ternary and microscaling mixes: what llama-quantize chose for 16 blocks, and what needs importance."""

import pytest

from puna.errors import ConversionError
from puna.quants.recipe import plan_types

# Columns: mix, whether with an importance matrix, then the types of token_embd, output, and of the blocks' parts:
# attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down; "A*2 B C*13": two blocks of A, then B, and 13 of C.
DENSE = """
Q2_K_S only with|Q2_K|Q6_K|Q2_K|Q2_K|Q2_K|Q2_K|Q2_K|Q2_K|Q4_K*2 Q2_K*14
IQ1_S only with|Q2_K|Q5_K|IQ1_S|IQ1_S|Q2_K|IQ2_XXS|IQ1_S|IQ1_S|Q2_K*2 IQ1_S*14
IQ1_M only with|Q2_K|Q5_K|IQ1_M|IQ1_M|Q2_K|IQ2_XXS|IQ1_M|IQ1_M|Q2_K*2 IQ1_M*14
IQ2_XXS only with|Q2_K|Q5_K|IQ2_XXS|IQ2_XXS|Q2_K|IQ2_XXS|IQ2_XXS|IQ2_XXS|Q2_K*2 IQ2_XXS*14
IQ2_XS only with|Q2_K|Q5_K|IQ2_XS|IQ2_XS|Q2_K|IQ2_XS|IQ2_XS|IQ2_XS|Q2_K*2 IQ2_XS*14
IQ3_XXS only with|IQ3_S|Q5_K|IQ2_S|IQ2_S|IQ3_XXS|IQ3_S|IQ3_XXS|IQ3_XXS|IQ3_XXS
IQ3_S either|IQ3_S|Q6_K|IQ3_S|IQ3_S|IQ3_S|IQ3_S|IQ3_S|IQ3_S|IQ3_S
IQ4_NL without|IQ4_NL|Q6_K|IQ4_NL|IQ4_NL|IQ4_NL|IQ4_NL|IQ4_NL|IQ4_NL|Q5_K*2 IQ4_NL*14
IQ4_NL with|IQ4_NL|Q6_K|IQ4_NL|IQ4_NL|IQ4_NL|IQ4_NL|IQ4_NL|IQ4_NL|IQ4_NL
IQ4_XS without|IQ4_XS|Q6_K|IQ4_XS|IQ4_XS|IQ4_XS|IQ4_XS|IQ4_XS|IQ4_XS|Q5_K*2 IQ4_XS*14
IQ4_XS with|IQ4_XS|Q6_K|IQ4_XS|IQ4_XS|IQ4_XS|IQ4_XS|IQ4_XS|IQ4_XS|IQ4_XS
IQ2_S only with|IQ3_S|Q5_K|IQ2_XS|IQ2_XS|IQ3_S|IQ3_S|IQ2_XS|IQ2_XS|IQ3_S*2 IQ2_XS*14
IQ2_M only with|IQ3_S|Q5_K|IQ2_S|IQ2_S|IQ3_S|IQ3_S|IQ2_S|IQ2_S|IQ3_S*2 IQ2_S*14
IQ3_XS only with|IQ3_S|Q6_K|IQ3_XXS|IQ3_XXS|IQ3_S|IQ3_S|IQ3_S*2 IQ3_XXS*12 IQ3_S*2|IQ3_S*2 IQ3_XXS*12 IQ3_S*2|IQ3_S
IQ3_M either|IQ3_S|Q6_K|IQ3_S|IQ3_S|Q4_K|Q4_K|IQ3_S|IQ3_S|Q4_K*2 IQ3_S*14
TQ1_0 either|Q4_K|Q6_K|TQ1_0|TQ1_0|TQ1_0|TQ1_0|TQ1_0|TQ1_0|TQ1_0
TQ2_0 either|Q4_K|Q6_K|TQ2_0|TQ2_0|TQ2_0|TQ2_0|TQ2_0|TQ2_0|TQ2_0
Q1_0 either|Q1_0|Q6_K|Q1_0|Q1_0|Q1_0|Q1_0|Q1_0|Q1_0|Q1_0
MXFP4_MOE either|Q8_0|Q8_0|Q8_0|Q8_0|Q8_0|Q8_0|Q8_0|Q8_0|Q8_0
"""

EIGHT = """
Q2_K_S only with|Q2_K|Q6_K|Q2_K|Q8_0|Q8_0|Q2_K|Q2_K|Q2_K|Q4_K*2 Q2_K*14
IQ1_S only with|Q2_K|Q5_K|IQ1_S|Q4_K|Q4_K|Q5_K|IQ1_S|IQ1_S|Q2_K*2 IQ1_S*14
IQ1_M only with|Q2_K|Q5_K|IQ1_M|Q4_K|Q4_K|Q5_K|IQ1_M|IQ1_M|Q2_K*2 IQ1_M*14
IQ2_XXS only with|Q2_K|Q5_K|IQ2_XXS|Q4_K|Q4_K|Q5_K|IQ2_XXS|IQ2_XXS|Q2_K*2 IQ2_XXS*14
IQ2_XS only with|Q2_K|Q5_K|IQ2_XS|Q4_K|Q4_K|Q5_K|IQ2_XS|IQ2_XS|Q2_K*2 IQ2_XS*14
IQ3_XXS only with|IQ3_S|Q5_K|IQ2_S|Q8_0|Q8_0|Q5_K|IQ3_XXS|IQ3_XXS|IQ3_XXS
IQ3_S either|IQ3_S|Q6_K|IQ3_S|Q8_0|Q8_0|Q5_K|IQ3_S|IQ3_S|IQ3_S
IQ4_NL without|IQ4_NL|Q6_K|IQ4_NL|Q8_0|Q8_0|Q5_K|IQ4_NL|IQ4_NL|Q5_K*2 IQ4_NL*14
IQ4_NL with|IQ4_NL|Q6_K|IQ4_NL|Q8_0|Q8_0|Q5_K|IQ4_NL|IQ4_NL|IQ4_NL
IQ4_XS without|IQ4_XS|Q6_K|IQ4_XS|Q8_0|Q8_0|Q5_K|IQ4_XS|IQ4_XS|Q5_K*2 IQ4_XS*14
IQ4_XS with|IQ4_XS|Q6_K|IQ4_XS|Q8_0|Q8_0|Q5_K|IQ4_XS|IQ4_XS|IQ4_XS
IQ2_S only with|IQ3_S|Q5_K|IQ2_XS|Q4_K|Q4_K|Q5_K|IQ2_XS|IQ2_XS|IQ3_S*2 IQ2_XS*14
IQ2_M only with|IQ3_S|Q5_K|IQ2_S|Q4_K|Q4_K|Q5_K|IQ2_S|IQ2_S|IQ3_S*2 IQ2_S*14
IQ3_XS only with|IQ3_S|Q6_K|IQ3_XXS|Q8_0|Q8_0|Q5_K|IQ3_S*2 IQ3_XXS*12 IQ3_S*2|IQ3_S*2 IQ3_XXS*12 IQ3_S*2|IQ3_S
IQ3_M either|IQ3_S|Q6_K|IQ3_S|Q8_0|Q8_0|Q5_K|IQ3_S|IQ3_S|Q4_K*2 IQ3_S*2 Q4_K IQ3_S*2 Q4_K IQ3_S*2 Q4_K IQ3_S*2 Q4_K*3
TQ1_0 either|Q4_K|Q6_K|TQ1_0|Q8_0|Q8_0|TQ1_0|TQ1_0|TQ1_0|TQ1_0
TQ2_0 either|Q4_K|Q6_K|TQ2_0|Q8_0|Q8_0|TQ2_0|TQ2_0|TQ2_0|TQ2_0
Q1_0 either|Q1_0|Q6_K|Q1_0|Q8_0|Q8_0|Q1_0|Q1_0|Q1_0|Q1_0
MXFP4_MOE either|Q8_0|Q8_0|Q8_0|Q8_0|Q8_0|Q8_0|MXFP4|MXFP4|MXFP4
"""

PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def tensors(experts):
    found = {"token_embd.weight": ((320, 256), "F16"), "output.weight": ((320, 256), "F16")}
    for i in range(16):
        for part in PARTS:
            stacked = experts and part.startswith("ffn")
            shape = ((experts,) if stacked else ()) + (256, 256)
            found[f"blk.{i}.{part}{'_exps' if stacked else ''}.weight"] = (shape, "F16")
    return found


def plan(mix, experts=0, imatrix=False):
    metadata = {"llama.block_count": 16, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2}
    metadata |= {"llama.expert_count": experts}
    return plan_types(tensors(experts), mix, arch="llama", metadata=metadata, imatrix=imatrix)


def of_blocks(text):
    """The 16 types that a column stands for."""
    runs = [run.partition("*") for run in text.split()]
    return [kind for kind, _, count in runs for _ in range(int(count or (1 if len(runs) > 1 else 16)))]


CASES = [
    pytest.param(experts, *line.split("|", 1), id=" ".join([*line.split("|")[0].split(), f"{experts} experts"]))
    for experts, table in ((0, DENSE), (8, EIGHT))
    for line in table.strip().splitlines()
]


@pytest.mark.parametrize(("experts", "case", "expected"), CASES)
def test_a_mix_gives_the_types_of_llama_quantize(experts, case, expected):
    mix, when = case.split(maxsplit=1)
    embedding, output, *parts = (column.strip() for column in expected.split("|"))
    for imatrix in {"either": (False, True), "without": (False,)}.get(when.strip(), (True,)):
        types = plan(mix, experts, imatrix)
        assert (types["token_embd.weight"], types["output.weight"]) == (embedding, output)
        for part, column in zip(PARTS, parts, strict=True):
            found = [next(t for n, t in types.items() if n.startswith(f"blk.{i}.{part}")) for i in range(16)]
            assert found == of_blocks(column), part


@pytest.mark.parametrize(("experts", "case"), [c.values[:2] for c in CASES if "only with" in c.values[1]])
def test_a_mix_that_needs_importance_says_so_at_once(experts, case):
    mix = case.split()[0]
    with pytest.raises(ConversionError, match=r"needs importance, and there is no importance matrix; .* would work"):
        plan(mix, experts)


def test_a_weight_that_the_importance_matrix_does_not_have_is_named():
    known = [name for name in tensors(0) if name != "blk.3.ffn_up.weight"]
    with pytest.raises(
        ConversionError, match=r"'blk.3.ffn_up.weight' as IQ2_XXS needs importance, and the importance m"
    ):
        plan("IQ2_XXS", imatrix=known)


def test_importance_of_the_embedding_and_the_output_is_not_needed():
    known = [name for name in tensors(0) if name.startswith("blk.")]
    assert plan("IQ2_XXS", imatrix=known)["token_embd.weight"] == "Q2_K"


def test_nvfp4_is_given_to_everything_but_the_output():
    types = plan("NVFP4")
    assert types.pop("output.weight") == "Q6_K"
    assert set(types.values()) == {"NVFP4"}


def test_rows_that_do_not_fit_fall_back_to_blocks_of_32():
    shapes = {f"blk.0.{name}.weight": ((8, columns), "F16") for name, columns in (("a", 288), ("b", 100))}
    for mix, fallback in (("IQ2_XXS", "IQ4_NL"), ("IQ4_XS", "IQ4_NL"), ("TQ2_0", "Q4_0")):
        types = plan_types(shapes, mix, arch="llama", metadata={}, imatrix=True)
        assert list(types.values()) == [fallback, "F16"]
