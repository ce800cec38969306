"""The textbook encodes the first few words, until Numba has started; the ids are the same."""

import subprocess
import sys

CODE = r"""
import sys
from npgpt.tokenizer import BPETokenizer
tokenizer = BPETokenizer([(104, 105), (32, 256)], {"<|end|>": 400}, ids=[*range(100, 356), 7, 3])
texts = ["hi hi", "", "caf\u00e9 hi", "\ud800", "hi<|end|>hi"] * 3
first = [tokenizer.encode(text, "all") for text in texts], [tokenizer.encode_array(text).tolist() for text in texts]
assert "numba" not in sys.modules
many = tokenizer.encode("hi " * 500)
assert "numba" in sys.modules
assert first[0] == [tokenizer.encode(text, "all") for text in texts]
assert first[1] == [tokenizer.encode_array(text).tolist() for text in texts]
assert tokenizer.encode_array("").dtype.name == "uint32"
print(first[0][0], many[:3])
"""


def test_first_words_do_not_start_numba() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "[7, 3] [7, 3, 3]\n"


def test_kernels_encode_from_the_first_word_after_training() -> None:
    code = """
from npgpt.tokenizer import BPETokenizer
for tokenizer in BPETokenizer.train("the theme of the thesis", 262), BPETokenizer([(104, 105)]):
    tokenizer.encode("hi")
    assert "_encoder" in vars(tokenizer)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
