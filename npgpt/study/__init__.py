"""Tools to study gradients: check them (``check``), and see each one as a sum of terms (``trace``)."""

from npgpt.study.check import gradcheck, jacobian

__all__ = ["gradcheck", "jacobian"]
