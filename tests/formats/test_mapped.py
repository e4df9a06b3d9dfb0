"""What a mapped file leaves behind."""

import os

import pytest

from puna.formats.mapped import MappedFile


def test_a_file_that_outlives_its_module_is_closed_without_a_word(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"four")
    file = MappedFile(path)
    assert bytes(file.read(1, 3)) == b"ou"
    descriptor = file._descriptor
    monkeypatch.setattr("puna.formats.mapped.os", None)  # as when Python ends
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
