"""To study gradients: check them, take them apart, see what each is the sum of (``npgpt.study.trace``)."""

from npgpt.study.check import gradcheck, jacobian

__all__ = ["gradcheck", "jacobian"]
