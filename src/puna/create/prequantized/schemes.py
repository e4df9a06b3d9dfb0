"""Which schemes of packed weights there are: what config.json calls them, and how they name a weight's tensors.

What a config says beyond that is kept by key with the values that are understood; a key that is not there changes no
number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from puna.create.prequantized import bitsandbytes, fp4, fp8, integers, mlx
from puna.create.prequantized.unpacked import FLOATS, Parts, Unpacked
from puna.dtypes import DType
from puna.errors import ConversionError

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tensors of one weight are called: a stem and what each role adds to it.

    `codes` is what the tensor adds that a weight is recognised by, `types` are those it may have there (none: any), and
    `result` is what the plain weight adds. A weight is packed where one of `needed` is there, or `always`.
    """

    unpack: Callable[[Parts], Unpacked]
    codes: tuple[str, str]
    needed: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    result: str = ""
    always: bool = True


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way of packing; `requires` are keys of the config and the values understood (None: absent).

    `settings` gives what unpacking a weight, by its stem, must know of the scheme's config and the model's.
    """

    layouts: tuple[Layout, ...]
    settings: Callable[[Config, Config, str], Config] = lambda said, config, stem: {}
    requires: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def model_dtype(config: Config) -> DType | None:
    """The type config.json names for the model's floats, or None."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) is not None:
                return FLOATS.get(str(part[key]).removeprefix("torch."))
    return None


def _sizes(key: str, value: Any) -> tuple[int, ...]:
    """The sides of a block, () where none are said."""
    sides = () if value is None else tuple(value) if isinstance(value, list) else (0,)
    if not all(type(side) is int and side > 0 for side in sides):
        raise ConversionError(
            f"unpacking: 'quantization_config' says {key!r}: {repr(value)[:80]}; what works: sides such as [128, 128]"
        )
    return sides


def _fp8_settings(said: Config, config: Config, stem: str) -> Config:
    return {"block": _sizes("weight_block_size", said.get("weight_block_size")), "dtype": model_dtype(config)}


def _compressed_settings(said: Config, config: Config, stem: str) -> Config:
    groups = said.get("config_groups") or {}
    if not isinstance(groups, dict):
        raise ConversionError("unpacking: 'quantization_config' says 'config_groups': no object; one by name works")
    weights = [found for group in groups.values() if isinstance(group, dict) and (found := group.get("weights"))]
    told = [each for each in weights if isinstance(each, dict)]
    blocks = {_sizes("block_structure", each.get("block_structure")) for each in told} - {()}
    return {
        "bits": [bits for bits in (4, 8) if not told or any(each.get("num_bits") == bits for each in told)],
        "block": blocks.pop() if len(blocks) == 1 else (),
        "symmetric": not told or any(each.get("symmetric") is not False for each in told),
        "dtype": model_dtype(config),
    }


def _gptq_settings(said: Config, config: Config, stem: str) -> Config:
    return {"bits": said.get("bits"), "format": said.get("checkpoint_format") or said.get("format")}


def _mlx_settings(said: Config, config: Config, stem: str) -> Config:
    """What holds for a module: its own entry goes before the whole's."""
    own = said.get(stem)
    return {**said, **own} if isinstance(own, dict) else said


_BYTES = Layout(
    fp8.unpack,
    codes=("weight", ""),
    needed={"scale": ("_scale_inv", "_scale")},
    optional={"zero_point": "_zero_point"},
    types=fp8.CODES,
)
_WORDS = Layout(
    integers.unpack_words,
    codes=("weight", "_packed"),
    needed={"scale": ("_scale",), "shape": ("_shape",)},
    optional={"zero_point": "_zero_point", "g_idx": "_g_idx"},
    types=integers.WORDS,
)
_PACKED_FP4 = Layout(
    fp4.unpack_packed,
    codes=("weight", "_packed"),
    needed={"scale": ("_scale",)},
    optional={"global_scale": "_global_scale"},
    types=("U8",),
)
_MODELOPT_FP4 = Layout(
    fp4.unpack_nv, codes=("weight", ""), needed={"scale": ("_scale",), "scale_2": ("_scale_2",)}, types=("U8",)
)
_EXPERTS = Layout(fp4.unpack_experts, codes=("blocks", "_blocks"), needed={"scales": ("_scales",)})
_GPTQ = Layout(
    integers.unpack_gptq,
    codes=("qweight", ".qweight"),
    needed={"qzeros": (".qzeros",), "scales": (".scales",)},
    optional={"g_idx": ".g_idx"},
    result=".weight",
)
_AWQ = Layout(
    integers.unpack_awq,
    codes=("qweight", ".qweight"),
    needed={"qzeros": (".qzeros",), "scales": (".scales",)},
    result=".weight",
)
_FOUR_BITS = Layout(
    bitsandbytes.unpack_4bit,
    codes=("weight", ""),
    needed={
        "absmax": (".absmax",),
        "quant_map": (".quant_map",),
        "quant_state": (".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"),
    },
    optional={"nested_absmax": ".nested_absmax", "nested_quant_map": ".nested_quant_map"},
    always=False,
)
_INT8 = Layout(
    bitsandbytes.unpack_int8,
    codes=("weight", ".weight"),
    needed={"SCB": (".SCB",)},
    optional={"weight_format": ".weight_format"},
    types=("I8",),
    result=".weight",
)
_MLX = Layout(
    mlx.unpack,
    codes=("weight", ".weight"),
    needed={"scales": (".scales",)},
    optional={"biases": ".biases"},
    types=("U32",),
    result=".weight",
)

SCHEMES: dict[str, Scheme] = {
    "fp8": Scheme((_BYTES,), _fp8_settings, {"expert_dtype": (None, "fp8")}),
    "fbgemm_fp8": Scheme((_BYTES,), _fp8_settings),
    "modelopt": Scheme(
        (_BYTES, _MODELOPT_FP4),
        _fp8_settings,
        {
            "quant_algo": (
                *("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "fp8_pb_wo", "MXFP8", "NVFP4", "MIXED_PRECISION"),
            ),
        },
    ),
    "compressed-tensors": Scheme(
        (_WORDS, _PACKED_FP4, _BYTES),
        _compressed_settings,
        {
            "format": (
                *("pack-quantized", "float-quantized", "int-quantized", "naive-quantized", "nvfp4-pack-quantized"),
                *("mxfp4-pack-quantized", "mixed-precision"),
            ),
            "quantization_status": (None, "compressed"),
            "transform_config": (None, {}),
        },
    ),
    "gptq": Scheme(
        (_GPTQ,),
        _gptq_settings,
        {
            "checkpoint_format": (None, "gptq", "gptq_v2"),
            "format": (None, "gptq", "gptq_v2"),
            "pack_dtype": (None, "int32"),
            "is_marlin_format": (None, False),
            "rotation": (None, ""),
            "adapter": (None, {}),
        },
    ),
    "awq": Scheme(
        (_AWQ,),
        lambda said, config, stem: said,
        {"version": (None, "gemm", "GEMM"), "format": (None, "gemm"), "zero_point": (None, True)},
    ),
    "bitsandbytes": Scheme((_FOUR_BITS, _INT8)),
    "mxfp4": Scheme((_EXPERTS,)),
    "mlx": Scheme((_MLX,), _mlx_settings, {"mode": (None, *mlx.MODES)}),
}
"""Every scheme by its `quant_method`; MLX, whose configs name none, is mlx."""

UNSAID = Scheme((Layout(fp4.unpack_blocks, codes=("blocks", ".blocks"), needed={"scales": (".scales",)}),))
"""What is packed though no config says it: gpt-oss as OpenAI publishes it."""

ACTIVATIONS = (
    *(".input_scale", ".input_zero_point", ".input_global_scale", ".input_scale_ub", ".output_scale"),
    *(".activation_scale", ".q_scale", ".k_scale", ".v_scale", ".k_zero_point", ".v_zero_point"),
)
"""Ends of names of scales of activations and caches, which plain weights have no use for."""
