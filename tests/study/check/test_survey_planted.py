"""Mistakes that a program plants in code. No clone is needed."""

import ast

from survey_planted import places, with_change

CODE = """\
def forward(x, w):
    return x @ w + 1

class Linear:
    def backward(self, dy):
        self.db += dy.sum(0) / (self.n + 1e-8)
        for i in range(3):
            i += 1
        return -dy[:4] @ self.w.T * np.dot(dy, self.k) ** 2 + self.r
"""
CHANGED = {
    "drop eps": "/ self.n",
    "drop factor": "np.dot(dy, self.k) ** 2 + self.r",
    "drop summand": "pass",
    "flip sign": "self.db -= dy.sum(0)",
    "multiply instead of divide": "dy.sum(0) * (self.n + 1e-08)",
    "off by one": "range(3 - 1)",
    "overwrite instead of add": "self.db = dy.sum(0)",
    "remove transposition": "@ self.w *",
    "sum to mean": "dy.mean(0)",
    "swap operands": "np.dot(self.k, dy)",
    "wrong power": "np.dot(dy, self.k) + self.r",
}


def test_each_change_is_in_a_backward_function_and_makes_other_code() -> None:
    found = [(where, operator) for where, operator, _, _ in places(ast.parse(CODE))]
    assert {where for where, _ in found} == {"Linear.backward"} and {operator for _, operator in found} == set(CHANGED)
    texts = [with_change(CODE, n) for n in range(len(found))]
    assert len({ast.unparse(ast.parse(CODE)), *texts}) == len(texts) + 1
    for operator, expected in CHANGED.items():
        assert any(expected in text for (_, o), text in zip(found, texts, strict=True) if o == operator), operator
    assert all("i += 1" in text for text in texts)  # a loop still ends
