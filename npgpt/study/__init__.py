"""To study gradients: check them, take them apart, see what each is the sum of (``npgpt.study.trace``)."""

from npgpt.study.check.checker import gradcheck
from npgpt.study.check.jacobian import jacobian

__all__ = ["gradcheck", "jacobian"]
