"""What the torch backend reads from blocks, beside what `puna.quants` reads: the same bits, whatever the bytes."""

import numpy as np
import pytest
import torch

from puna import quants
from puna.backends.torch.decoders import DECODERS, decode
from puna.quants import CODECS


def test_there_is_a_decoder_for_every_type():
    assert set(DECODERS) == set(CODECS)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_any_bytes_are_read_as_quants_reads_them(name):
    dtype = CODECS[name].dtype
    raw = np.random.default_rng(3).integers(0, 256, (400, dtype.block_bytes), np.uint8)
    expected = quants.dequantize(raw, name, (400, dtype.block_size))
    found = decode(torch.tensor(raw), name).numpy()
    assert found.dtype == np.float32
    finite = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), ~finite)
    np.testing.assert_array_equal(found[finite].view(np.uint32), expected[finite].view(np.uint32))
