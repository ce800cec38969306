"""Every number of one pass, and every gradient as a sum of terms."""

from npgpt.study.trace.tracing import Trace, Traced, relative_error, trace

__all__ = ["Trace", "Traced", "relative_error", "trace"]
