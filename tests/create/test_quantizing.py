"""What quantizing refuses or remarks on: targets, importance of another model, weights quantized for a second time."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from golden.checkpoints import write_wide
from puna.cli import main
from puna.errors import ConversionError, FormatError
from puna.formats.imatrix import Imatrix, write_imatrix

PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file whose rows are whole blocks of every type."""
    folder = tmp_path_factory.mktemp("wide")
    write_wide(folder / "hf", "llama2")
    puna.convert(folder / "hf", folder / "m.gguf")
    return folder / "m.gguf"


def columns(model: Path) -> dict[str, int]:
    """Of each matrix in a block."""
    return {name: t.shape[-1] for name, t in puna.open_gguf(model).tensors.items() if name.split(".")[-2] in PARTS}


def matrix(sizes: dict[str, int]) -> Imatrix:
    rng = np.random.default_rng(0)
    sums = {name: rng.gamma(0.5, 1, (1, size)).astype(np.float32) for name, size in sizes.items()}
    return Imatrix(sums, {name: np.array([8]) for name in sizes}, 1, 8)


# ---- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_bpw": float("nan")},
            "a target of nan bits per weight; more than 0 and at most 32, such as 4.5, would",
        ),
        ({"target_bpw": float("inf")}, "a target of inf bits per weight"),
        ({"target_bpw": float("-inf")}, "a target of -inf bits per weight"),
        ({"target_bpw": -4}, "a target of -4 bits per weight"),
        ({"target_bpw": 0}, "a target of 0 bits per weight"),
        ({"target_bpw": 33}, "a target of 33 bits per weight"),
        ({"target_size": 0}, "target size is 0; a number of bytes such as 500M or 2G would work"),
        ({"target_size": "0"}, "target size is '0'"),
        ({"target_size": "-4G"}, "target size is '-4G'"),
    ],
)
def test_a_target_that_no_file_can_have_is_refused_with_what_would_work(
    options: dict[str, Any], message: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=message):
        puna.convert(model, tmp_path / "m.gguf", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", ["1K", "99", 100_000])
def test_the_least_size_that_is_named_is_that_of_the_file_and_is_reached(
    asked: str | int, model: Path, tmp_path: Path
) -> None:
    out, more = tmp_path / "out.gguf", {"puna.words": "word " * 1000}
    with pytest.raises(ConversionError) as error:
        puna.convert(model, out, target_size=asked, metadata=more)
    wanted = {"1K": "1,000", "99": "99", 100_000: "100,000"}[asked]
    found = re.search(
        rf"the target of {wanted} bytes is too small: with the smallest types it is a file of ([\d,]+) bytes "
        r"\(\d\.\d\d bits per weight without metadata\); that, or an importance matrix, would work",
        str(error.value),
    )
    assert found
    least = int(found[1].replace(",", ""))
    puna.convert(model, out, target_size=least, metadata=more)
    assert least - 64 < out.stat().st_size <= least  # the target is recorded, and its length is rounded up
    with pytest.raises(ConversionError, match=f"with the smallest types it is a file of {found[1]} bytes"):
        puna.convert(model, out, target_size=least - 64, metadata=more)


def test_the_least_bits_that_are_named_are_reached(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as error:
        puna.convert(model, tmp_path / "m.gguf", target_bpw=0.5)
    found = re.search(
        r"the target of 0\.5 bits per weight is too small: with the smallest types it is (\d\.\d\d) bits per weight;",
        str(error.value),
    )
    assert found
    puna.convert(model, tmp_path / "m.gguf", target_bpw=float(found[1]))
    with pytest.raises(ConversionError, match="is too small"):
        puna.convert(model, tmp_path / "m.gguf", target_bpw=float(found[1]) - 0.01)


# ---- importance of another model ------------------------------------------------------------------------------------


def test_an_importance_matrix_without_one_of_the_models_matrices_is_an_error_with_names_of_both(
    model: Path, tmp_path: Path
) -> None:
    other = matrix({"blk.40.ffn_down.weight": 256})
    message = r"it has 'blk\.40\.ffn_down\.weight' and the like, .* such as 'blk\.\d\.ffn_down\.weight'"
    for options in ({"quantize": "Q4_K"}, {"quantize": "IQ2_XXS"}, {"target_bpw": 5}):
        with pytest.raises(ConversionError, match=message):
            puna.convert(model, tmp_path / "m.gguf", imatrix=other, **options)
    assert list(tmp_path.iterdir()) == []


def test_matrices_without_importance_are_a_warning_that_counts_them(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = columns(model)
    half = dict(list(sizes.items())[: len(sizes) // 2])
    report = puna.convert(model, tmp_path / "m.gguf", quantize="Q4_K", imatrix=matrix(half), dry_run=True)
    (warning,) = report.warnings
    assert warning.startswith(f"{len(half)} of {len(sizes)} matrices have importance; '{list(sizes)[len(half)]}' and ")
    write_imatrix(tmp_path / "i.gguf", matrix(half))
    words = ["convert", str(model), str(tmp_path / "m.gguf"), "-q", "Q4_K", "--imatrix", str(tmp_path / "i.gguf")]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    assert f"note: {warning}" in capsys.readouterr().err


def test_importance_of_matrices_that_the_model_does_not_have_is_a_warning(model: Path, tmp_path: Path) -> None:
    larger = {**columns(model), "blk.40.ffn_down.weight": 256}
    report = puna.convert(model, tmp_path / "m.gguf", quantize="Q4_K", imatrix=matrix(larger), dry_run=True)
    assert report.warnings == (
        "the importance matrix has 1 that the model does not have, such as 'blk.40.ffn_down.weight': "
        "is it this model's?",
    )


def test_importance_for_every_matrix_of_the_blocks_needs_no_warning(model: Path, tmp_path: Path) -> None:
    full = matrix(columns(model))
    assert puna.convert(model, tmp_path / "m.gguf", quantize="Q4_K", imatrix=full, dry_run=True).warnings == ()
    assert puna.convert(model, tmp_path / "m.gguf", quantize="F16", imatrix=full, dry_run=True).warnings == ()


def test_importance_of_other_columns_is_an_error(model: Path, tmp_path: Path) -> None:
    wrong = matrix({name: size // 2 for name, size in columns(model).items()})
    with pytest.raises(FormatError, match="the matrix of the same model would work"):
        puna.convert(model, tmp_path / "m.gguf", quantize="Q4_K", imatrix=wrong)


# ---- quantized again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "pairs", "why"),
    [
        ("Q4_1", "IQ3_S", "Q4_1 to IQ3_S", "the losses of both add up"),
        ("Q4_1", "Q8_0", "Q4_1 to Q8_0", "they take no less room, and what was lost stays lost"),
    ],
)
def test_weights_that_are_quantized_again_are_a_warning(
    first: str, second: str, pairs: str, why: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert puna.convert(model, tmp_path / "a.gguf", quantize=first).warnings == ()
    report = puna.convert(tmp_path / "a.gguf", tmp_path / "b.gguf", quantize=second)
    (warning,) = [each for each in report.warnings if pairs in each]
    assert re.fullmatch(rf"\d+ quantized matrices are quantized again \({pairs}.*\): {why}; quantizing the .*", warning)
    with pytest.raises(SystemExit):
        main(["convert", str(tmp_path / "a.gguf"), str(tmp_path / "c.gguf"), "-q", second])
    assert f"note: {warning}" in capsys.readouterr().err


def test_quantized_weights_that_stay_as_they_are_need_no_warning(model: Path, tmp_path: Path) -> None:
    puna.convert(model, tmp_path / "a.gguf", quantize="Q8_0")
    for options in ({"quantize": "Q8_0"}, {"quantize": "F16"}, {}):
        assert puna.convert(tmp_path / "a.gguf", tmp_path / "b.gguf", dry_run=True, **options).warnings == ()
