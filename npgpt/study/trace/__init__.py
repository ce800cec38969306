"""Every number of one pass, and what each gradient is the sum of."""

from npgpt.study.trace.tracing import Trace, Traced, relative_error, trace

__all__ = ["Trace", "Traced", "relative_error", "trace"]
