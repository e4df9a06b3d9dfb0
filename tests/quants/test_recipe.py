"""Which tensor gets which type; expected values are what llama-quantize chose, or its rules written out."""

import pytest

from puna.errors import ConversionError
from puna.quants.recipe import file_type, is_kept, plan_types, type_of

LLAMA = {"llama.attention.head_count": 4, "llama.attention.head_count_kv": 2}


def plan(ftype, blocks=8, arch="llama", tied=False, ffn=512, experts=0, imatrix=False, **metadata):
    """Types of a small llama: only what differs from the most common type of its matrices."""
    tensors = {"token_embd.weight": ((320, 256), "F16"), "output_norm.weight": ((256,), "F32")}
    if not tied:
        tensors["output.weight"] = ((320, 256), "F16")
    for i in reversed(range(blocks)):
        down = ((experts, 256, ffn), "F16") if experts else ((256, ffn), "F16")
        tensors |= {
            f"blk.{i}.attn_norm.weight": ((256,), "F32"),
            f"blk.{i}.attn_q.weight": ((256, 256), "F16"),
            f"blk.{i}.attn_k.weight": ((128, 256), "F16"),
            f"blk.{i}.attn_v.weight": ((128, 256), "F16"),
            f"blk.{i}.attn_output.weight": ((256, 256), "F16"),
            f"blk.{i}.ffn_up.weight": ((ffn, 256), "F16"),
            f"blk.{i}.ffn_down{'_exps' if experts else ''}.weight": down,
        }
    metadata = {
        "llama.block_count": blocks,
        **LLAMA,
        **({"llama.expert_count": experts} if experts else {}),
        **metadata,
    }
    return plan_types(tensors, ftype, arch=arch, metadata=metadata, imatrix=imatrix)


def blocks_with(types, part, chosen):
    return [int(n.split(".")[1]) for n in sorted(types) if f".{part}." in n and types[n] == chosen]


def test_q4_k_m_gives_more_bits_to_the_outer_eighths_and_every_third_block():
    types = plan("Q4_K_M")
    assert blocks_with(types, "attn_v", "Q6_K") == [0, 3, 6, 7]
    assert blocks_with(types, "ffn_down", "Q6_K") == [0, 3, 6, 7]
    assert types["output.weight"] == "Q6_K"
    others = {t for n, t in types.items() if not any(p in n for p in ("attn_v", "ffn_down", "output.w", "norm"))}
    assert others == {"Q4_K"}
    assert {t for n, t in types.items() if "norm" in n} == {"F32"}


def test_q4_k_s_gives_five_bits_to_the_first_four_attn_v_and_the_first_eighth_of_ffn_down():
    types = plan("Q4_K_S", blocks=16)
    assert blocks_with(types, "attn_v", "Q5_K") == [0, 1, 2, 3]
    assert blocks_with(types, "ffn_down", "Q5_K") == [0, 1]


def test_blocks_count_by_number_however_the_tensors_are_ordered():
    types = plan("Q3_K_M", blocks=32)
    assert blocks_with(types, "attn_v", "Q5_K") == [0, 1]
    assert blocks_with(types, "ffn_down", "Q5_K") == [0, 1]
    assert set(blocks_with(types, "attn_v", "Q4_K")) == set(range(2, 32))


@pytest.mark.parametrize(
    ("ftype", "v", "down", "output", "rest"),
    [
        ("Q2_K", "Q3_K", "Q3_K", "Q3_K", "Q2_K"),
        ("Q3_K_S", "Q3_K", "Q3_K", "Q3_K", "Q3_K"),
        ("Q3_K_L", "Q5_K", "Q5_K", "Q5_K", "Q3_K"),
        ("Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0"),
        ("Q5_K_S", "Q5_K", "Q5_K", "Q5_K", "Q5_K"),
        ("Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K"),
        ("Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"),
        ("BF16", "BF16", "BF16", "BF16", "BF16"),
    ],
)
def test_uniform_mixtures(ftype, v, down, output, rest):
    types = plan(ftype)
    parts = {"attn_v": v, "ffn_down": down, "attn_output": output, "attn_q": rest, "attn_k": rest, "ffn_up": rest}
    for part, chosen in parts.items():
        assert blocks_with(types, part, chosen) == list(range(8))
    assert types["token_embd.weight"] == rest
    assert types["output.weight"] == {"Q8_0": "Q8_0", "BF16": "BF16"}.get(ftype, "Q6_K")


def test_tied_embeddings_are_treated_as_the_output():
    assert plan("Q4_K_M", tied=True)["token_embd.weight"] == "Q6_K"
    assert plan("Q4_K_M", tied=False)["token_embd.weight"] == "Q4_K"


def test_rows_that_do_not_fit_fall_back_to_blocks_of_32_or_f16():
    types = plan("Q4_K_M", ffn=320)
    assert (types["blk.0.ffn_down.weight"], types["blk.1.ffn_down.weight"]) == ("Q8_0", "Q5_0")
    assert plan("Q5_K_S", ffn=320)["blk.1.ffn_down.weight"] == "Q5_1"
    assert plan("Q3_K_S", ffn=320)["blk.1.ffn_down.weight"] == "Q4_0"
    assert plan("Q4_K_M", ffn=100)["blk.0.ffn_down.weight"] == "F16"
    assert plan("Q8_0", ffn=100)["blk.0.ffn_down.weight"] == "F16"


def test_eight_experts_get_more_bits_in_attention_and_go_by_block_number():
    types = plan("Q4_K_M", experts=8)
    assert blocks_with(types, "attn_v", "Q8_0") == blocks_with(types, "attn_k", "Q8_0") == list(range(8))
    assert blocks_with(types, "attn_output", "Q5_K") == list(range(8))
    assert blocks_with(types, "ffn_down_exps", "Q6_K") == [0, 3, 6, 7]
    assert plan("Q3_K_L", experts=8)["blk.0.attn_output.weight"] == "Q3_K"


def test_grouped_heads_and_70b_models_get_more_bits_in_attn_v():
    grouped = {"llama.attention.head_count": 8}
    assert plan("Q2_K", **grouped)["blk.4.attn_v.weight"] == "Q4_K"
    assert plan("Q2_K", blocks=80, **grouped)["blk.20.attn_v.weight"] == "Q5_K"
    assert plan("Q4_K_M", blocks=80)["blk.11.attn_v.weight"] == "Q5_K"
    assert plan("Q4_K_M", blocks=80)["blk.12.attn_v.weight"] == "Q6_K"
    ungrouped = {"llama.attention.head_count_kv": [4] * 80}
    assert plan("Q4_K_M", blocks=80, **ungrouped)["blk.11.attn_v.weight"] == "Q4_K"


def test_an_imatrix_guards_the_first_ffn_down_of_q4_0():
    assert blocks_with(plan("Q4_0", imatrix=True), "ffn_down", "Q4_1") == [0]
    assert blocks_with(plan("Q5_0", imatrix=True), "ffn_down", "Q5_1") == [0]


def one(name, ftype, arch="llama", shape=(256, 256), source="F16", counters=None, **metadata):
    return type_of(name, shape, ftype, arch=arch, metadata=metadata, source=source, counters=counters or {})


def test_fused_qkv_follows_attn_v_where_it_is_counted():
    first, second = ({"i_attn_v": i, "n_attn_v": 8} for i in (0, 1))
    assert one("blk.0.attn_qkv.weight", "Q4_K_M", counters=first) == "Q6_K"
    assert one("blk.1.attn_qkv.weight", "Q4_K_M", counters=second) == "Q4_K"
    assert one("blk.1.attn_qkv.weight", "Q4_K_M") == "Q5_K"


def test_architectures_with_their_own_rules():
    assert one("blk.1.attn_qkv.weight", "Q4_K_M", arch="qwen35moe") == "Q4_K"
    assert one("blk.1.ffn_down_exps.weight", "Q4_K_S", arch="qwen35moe") == "Q6_K"
    assert one("blk.1.attn_q.weight", "Q8_0", arch="laguna", source="BF16") == "BF16"
    assert one("blk.1.ffn_gate_exps.weight", "Q8_0", arch="laguna", source="BF16") == "Q8_0"
    assert one("blk.1.ffn_down_exps.weight", "Q4_K_M", arch="laguna", block_count=2) == "Q6_K"
    assert one("output.weight", "Q4_K_M", arch="falcon") == "Q8_0"
    assert one("blk.1.attn_output.weight", "Q3_K_M", arch="falcon") == "Q3_K"


def test_another_base_type_can_be_given():
    common = {"arch": "", "metadata": {}, "source": "F16", "counters": {}}
    assert type_of("output.weight", (1024, 1024), "Q4_K_M", base="Q4_0", **common) == "Q6_K"
    assert type_of("output.weight", (100, 100), "Q4_K_M", base="Q4_0", **common) == "F16"
    assert type_of("blk.0.ffn_up.weight", (256, 256), "Q4_K_M", base="Q4_0", **common) == "Q4_0"


@pytest.mark.parametrize(
    ("name", "shape", "kept"),
    [
        ("blk.0.attn_q.weight", (8, 256), False),
        ("blk.0.attn_q.weight", (1, 256), True),
        ("blk.0.attn_q.bias", (8, 256), True),
        ("blk.0.attn_norm.weight", (8, 256), True),
        ("blk.0.ffn_gate_inp.weight", (8, 256), True),
        ("blk.0.ffn_gate_exps.weight", (8, 256, 256), False),
        ("position_embd.weight", (512, 256), True),
        ("token_types.weight", (2, 256), True),
        ("blk.0.ssm_conv1d.weight", (256, 4), True),
        ("blk.0.time_mix_w2.weight", (64, 256), True),
        ("v.patch_embd.weight", (64, 256), True),
    ],
)
def test_small_and_sensitive_tensors_keep_their_type(name, shape, kept):
    assert is_kept(name, shape) is kept


def test_file_types_are_known_in_any_case_and_by_short_names():
    assert [file_type(name) for name in ("q4_k_m", "Q4_K", "q5_k", "Q3_K", "bf16")] == [
        *("Q4_K_M", "Q4_K_M", "Q5_K_M", "Q3_K_M", "BF16")
    ]
    with pytest.raises(ConversionError, match=r"file type 'Q7_K' is unknown; F32, F16, BF16, .* would work"):
        file_type("Q7_K")
