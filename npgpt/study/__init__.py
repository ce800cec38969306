"""To study gradients: check them, take them apart, see what each is the sum of."""

from npgpt.study.gradcheck import gradcheck
from npgpt.study.jacobian import jacobian
from npgpt.study.trace import trace

__all__ = ["gradcheck", "jacobian", "trace"]
