"""A converted model held to its source, layer by layer; or looked at by itself.

stages   the graph cut at its blocks      running    both sides, stage by stage     measures   errors
tensors  each against its source          tokens, templates   behaviour             limits     what counts as drift
reference  transformers as the truth      report     what was found, as data
"""

from puna.create.verify.limits import Limits
from puna.create.verify.report import BlockReport, Check, OutputReport, TensorReport, Verification
from puna.create.verify.sides import Side
from puna.create.verify.whole import verify

__all__ = ["BlockReport", "Check", "Limits", "OutputReport", "Side", "TensorReport", "Verification", "verify"]
