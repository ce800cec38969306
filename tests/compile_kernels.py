"""Compile all kernels before the tests start their processes: each process would compile them once more.

python tests/compile_kernels.py [PART]: without a part, two processes at a time compile the parts below.
"""

import importlib
import pkgutil
import subprocess
import sys

PARTS = ("layers 0", "layers 1", "tokenizer")


def compile_part(part: str) -> None:
    if part == "tokenizer":
        from npgpt.embeddings import to_sentences, train_word2vec
        from npgpt.tokenizer import BPETokenizer

        text = "the cat sat on the mat, the dog sat on the log. " * 20
        tokenizer = BPETokenizer.train(text, 270)
        tokenizer.decode(tokenizer.encode(text))
        train_word2vec(to_sentences(text))
        return
    import npgpt.compiled

    for module in pkgutil.iter_modules(npgpt.compiled.__path__):
        importlib.import_module(f"npgpt.compiled.{module.name}")
    from npgpt.machine.compile import ENTRIES
    from npgpt.machine.pool import pool

    pool()
    for entry in ENTRIES[int(part[-1]) :: 2]:
        entry.compile_form()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        compile_part(" ".join(sys.argv[1:]))
    else:
        running = [subprocess.Popen([sys.executable, __file__, *part.split()]) for part in PARTS]
        codes = [process.wait() for process in running]  # below 0 where a signal has ended one
        sys.exit(any(codes))
