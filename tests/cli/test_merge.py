"""`puna merge` and adapters on the command line."""

import numpy as np

import puna as puna_package
from cli.tiny import weights
from create.adapters import matrices, peft_tensors, write_peft

UP = "blk.1.ffn_up.weight"


def adapter(folder, seed=1):
    a, b = matrices(weights()[UP].shape, 3, seed)
    return write_peft(folder, peft_tensors({"model.layers.1.mlp.up_proj": (a, b)}), r=3, lora_alpha=6), 2 * (b @ a)


def changed(path):
    return puna_package.open_gguf(path).tensors[UP].numpy() - weights()[UP]


def test_adapters_are_folded_with_their_scales(puna, home, tiny):
    (one, first), (two, second) = adapter(home / "one"), adapter(home / "two", 2)
    status, out, _ = puna("merge", tiny, one, two, "-o", "m.gguf", "--scale", "0.5", "--scale", "-1")
    assert status == 0
    assert out.startswith("1 of 21 tensors are changed; ")
    np.testing.assert_allclose(changed(home / "m.gguf"), 0.5 * first - second, atol=1e-5)
    assert puna("merge", tiny, one, two, "-o", "n.gguf", "--scale", "2").status == 0
    np.testing.assert_allclose(changed(home / "n.gguf"), 2 * (first + second), atol=1e-5)


def test_scales_that_are_no_ones_are_wrong_use(puna, home, tiny):
    status, _, err = puna("merge", tiny, "a", "b", "c", "-o", "m.gguf", "--scale", "1", "--scale", "2")
    assert status == 2
    assert "2 --scale for 3 adapters" in err


def test_a_model_of_the_store_is_merged_with_its_own_adapters(puna, home, tiny):
    (home / "Modelfile").write_text(f"FROM {tiny}\nADAPTER {adapter(home / 'one')[0]}\n")
    assert puna("create", "tuned").status == 0
    assert "`puna merge tuned` folds it in" in puna("convert", "tuned", "m.gguf").err
    assert puna("merge", "tuned", "-o", "m.gguf").status == 0
    np.testing.assert_allclose(changed(home / "m.gguf"), adapter(home / "one")[1], atol=1e-5)


def test_an_adapter_is_converted_for_its_base(puna, home, tiny):
    folder, _ = adapter(home / "one")
    status, out, _ = puna("convert", folder, "lora.gguf", "--base", tiny)
    assert (status, out) == (0, "an adapter for llama: 2 tensors, 1.9 kB\n")
    assert puna_package.open_gguf(home / "lora.gguf").metadata["adapter.type"] == "lora"
    assert "name the base (--base)" in puna("convert", folder, "again.gguf").err
    assert puna("convert", folder, "again.gguf", "--base", tiny, "-q", "Q8_0").status == 2
    assert puna("convert", tiny, "again.gguf", "--base", tiny).status == 2


def test_a_model_shows_its_adapters_and_its_modelfile_makes_it_again(puna, home, tiny):
    (home / "Modelfile").write_text(f"FROM {tiny}\nADAPTER {adapter(home / 'one')[0]}\n")
    assert puna("create", "tuned").status == 0
    (layer,) = puna_package.Store().manifest("tuned").all("adapter")
    blob = str(puna_package.Store().blob_path(layer.digest))
    assert ["adapter", blob] in [line.split() for line in puna("show", "tuned").out.splitlines()]
    text = puna("show", "tuned", "--modelfile").out
    assert f"ADAPTER {blob}\n" in text
    (home / "Modelfile").write_text(text)
    assert puna("create", "again").status == 0
    assert puna("cp", "tuned", "copy").status == 0
    assert len({puna_package.Store().manifest(name).digest for name in ("tuned", "again", "copy")}) == 1


def test_what_cannot_be_merged_is_one_line(puna, home, tiny):
    status, _, err = puna("merge", tiny, "nowhere", "-o", "m.gguf")
    assert (status, err.count("\n")) == (1, 1)
    assert "opening the adapter nowhere" in err
    assert not (home / "m.gguf").exists()
