"""The list of all readers of npgpt, and the list of the functions that take a path and read nothing."""

from pathlib import Path
from typing import Any

import readers_of_checkpoints
import readers_of_gpt2
import readers_of_runs
import readers_of_vectors
from reader import Reader, folder_of, function, packed, written
from readers_of_runs import CHARACTERS, TEXT, both

from npgpt.tokenizer import BPETokenizer, WordTokenizer

# ---- tokenizers

PAIRS = BPETokenizer.train(TEXT * 3, 280)
OWN = dict(
    zip(("char", "word", "bpe"), written(CHARACTERS.save, WordTokenizer.train(TEXT).save, PAIRS.save), strict=True)
)
TIKTOKEN, HUGGING_FACE = written(PAIRS.to_tiktoken, PAIRS.to_huggingface)


def gpt2(folder: Path) -> None:
    folder.mkdir()
    PAIRS.to_gpt2(folder / "encoder.json", folder / "vocab.bpe")


def value_of(tokenizer: Any) -> Any:
    tokens = getattr(tokenizer, "token_bytes", None)
    names = [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)] if tokens is None else list(tokens)
    encoded = tokenizer.encode("the cat sat on the mat", disallowed_special=())
    return type(tokenizer).__name__, tokenizer.vocab_size, names, dict(tokenizer.special_tokens), encoded


def sound_tokenizer(value: Any) -> bool:
    _, n, names, special, encoded = value
    return len(names) == n and all(0 <= token < n for token in [*special.values(), *encoded])


def tokenizer(name: str, covers: tuple[str, ...], samples: Any, reader: str, *arguments: str) -> Reader:
    return Reader(
        f"tokenizer, {name}",
        (*covers, reader),
        samples,
        lambda path: value_of(function(reader)(path, *arguments)),
        sound_tokenizer,
        command=lambda path: ["tokenize", "show", "the cat", "--vocab", str(path)],
    )


BASE = "tokenizer.base"
LOAD, FORMATS, BPE = "tokenizer.load.load_tokenizer", "tokenizer.bpe_formats", "tokenizer.bpe_tokenizer.BPETokenizer"
FROM_JSON = f"{BPE}.from_huggingface_json"
OWN_WAYS = {way: files for name in OWN for way, files in packed(name, OWN[name]).items()}
RANKS, JSON = packed("t.tiktoken", TIKTOKEN), packed("h.json", HUGGING_FACE)
TOKENIZERS = [
    tokenizer(
        "npgpt's", (f"{BASE}.read_tokenizer_json", f"{BASE}.Tokenizer.from_json"), OWN_WAYS, f"{BASE}.Tokenizer.load"
    ),
    tokenizer("GPT-2's", (f"{FORMATS}.read_gpt2", f"{BPE}.from_gpt2"), both(folder_of(gpt2)), LOAD),
    tokenizer("tiktoken's", (f"{FORMATS}.read_tiktoken",), RANKS, f"{BPE}.from_tiktoken", "gpt2"),
    tokenizer("Hugging Face's", (f"{FORMATS}.from_huggingface", FROM_JSON), JSON, f"{BPE}.from_huggingface"),
]

ALL = [
    *readers_of_vectors.READERS,
    *readers_of_runs.READERS,
    *readers_of_checkpoints.READERS,
    *readers_of_gpt2.READERS,
    *TOKENIZERS,
]
READERS = [reader for reader in ALL if reader.samples]  # without pyarrow there are no Parquet files

# They write, or only handle the name; `make_index` reads by `load_run`; tests/machine damages machine code.
NOT_READERS = """
    cli.options.check_out  embeddings.formats.save_vectors  embeddings.index.DocumentIndex.save
    embeddings.maps.draw_maps  embeddings.search.make_index  machine.code_files.is_as_hashed
    machine.code_files.read_code
    machine.code_files.write_code  runs.run.Run.save
    runs.checkpoint.foreign  runs.checkpoint.prune  runs.checkpoint.remove  runs.checkpoint.set_aside
    runs.checkpoint.write_checkpoint  runs.folder.RunFolder.create  runs.folder.RunFolder.create_next
    runs.checkpoint.states_of  runs.layout.is_run  support.locks.FileLock.is_at  runs.layout.damage
    runs.huggingface.save_huggingface  runs.layout.newest_run  runs.layout.write_manifest  runs.metrics.add_metrics
    runs.metrics.write_metrics  runs.weights.save_model  support.files.failures_named  support.files.flush_folder
    support.files.write_flushed  support.text_files.holds_a_run  study.check.files.module_name
    study.check.files.pick  study.trace.over_time.add_record  study.trace.over_time.draw_record
    support.compressed.packed_for  support.files.part_of  support.files.write_atomically
    support.pictures.draw_losses  tokenizer.base.Tokenizer.save  tokenizer.base.naming
    tokenizer.base.write_tokenizer_json  tokenizer.bpe_formats.write_gpt2  tokenizer.bpe_formats.write_huggingface
    tokenizer.bpe_formats.write_tiktoken  tokenizer.bpe_tokenizer.BPETokenizer.to_gpt2
    tokenizer.bpe_tokenizer.BPETokenizer.to_huggingface  tokenizer.bpe_tokenizer.BPETokenizer.to_tiktoken
""".split()  # noqa: SIM905
