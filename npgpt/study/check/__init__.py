"""Gradient checks: methods that share no code with the backward pass, laws, and a diagnosis."""

from npgpt.study.check.broken import LawBroken
from npgpt.study.check.cases import CASES, Case, Sizes, TrainingLoss, compile_case, make_case, of_order_one
from npgpt.study.check.checker import check_case, check_cases, gradcheck, upstream
from npgpt.study.check.diagnosis import KINDS
from npgpt.study.check.invariants import INVARIANTS
from npgpt.study.check.jacobians import jacobian
from npgpt.study.check.laws import LAWS, LAWS_OF_COMPILED, Law, laws_for
from npgpt.study.check.report import METHODS, Check, Finding, Report
from npgpt.study.check.verdict import TOLERANCES

__all__ = [
    "CASES", "INVARIANTS", "KINDS", "LAWS", "LAWS_OF_COMPILED", "METHODS", "TOLERANCES", "Case", "Check", "Finding",
    "Law", "LawBroken", "Report", "Sizes", "TrainingLoss", "check_case", "check_cases", "compile_case", "gradcheck",
    "jacobian", "laws_for", "make_case", "of_order_one", "upstream"
]  # fmt: skip
