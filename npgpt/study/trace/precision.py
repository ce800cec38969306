"""Rounding errors by tensor: a textbook pass in float32 compared with one in float64."""

from npgpt.study.trace.passes import TracedPass, in_float32, relative_error

HEADER = ("tensor", "layer", "shape", "float32 error", "gradient error")


def precision_rows(made: TracedPass) -> list[list[str]]:
    """Return a table of a pass: tensor, layer, shape, and the relative errors of value and gradient in float32."""
    single = in_float32(made.case, "textbook", made.dy)
    rows = []
    for tensor in made:
        value, grad = single.get(tensor.name, (None, None))
        if value is not None and grad is not None and tensor.grad is not None:
            offs = [relative_error(value, tensor.value), relative_error(grad, tensor.grad)]
            shape = "×".join(map(str, tensor.value.shape)) or "scalar"
            rows.append([tensor.name, tensor.layer.__name__, shape, *(f"{off:.0e}" for off in offs)])
    return rows
