"""`puna backends`: what can compute here."""

from puna.cli.backends import kinds_of_ops


def test_backends_devices_and_what_auto_is_are_listed(puna):
    status, out, _ = puna("backends")
    lines = out.splitlines()
    assert status == 0
    assert {"numpy", "cpu"} <= set(lines)
    assert any(line.startswith("  cpu:generic  this processor's generic, ") for line in lines)
    assert lines[-1].startswith("auto is ")


def test_ops_of_one_backend_are_listed_by_kind(puna):
    _, out, _ = puna("backends", "numpy", "--ops")
    lines = out.splitlines()
    assert lines[0] == "numpy"
    assert " matmul " in lines[1]
    assert lines[1].startswith("  native: ")
    assert lines[2].startswith("  fused: ")


def test_an_op_that_a_backend_has_for_some_cases_only_is_fused_in_part():
    kinds = kinds_of_ops(lambda node: node.op == "matmul" or (node.op == "softmax" and len(node.shape) == 2))
    assert (kinds["matmul"], kinds["softmax"], kinds["silu"]) == ("native", "fused in part", "lowered")


def test_a_backend_that_is_not_known_is_said(puna):
    assert "backend 'abacus' is unknown" in puna("backends", "abacus").err
