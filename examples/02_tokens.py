"""Why is *tokenization* three tokens, and how does a tokenizer encode a new word?"""

import pydoc_data.topics

from npgpt.tokenizer import BPETokenizer, WordTokenizer

# %% Python's own help texts: every machine has them.
text = "\n".join(pydoc_data.topics.topics.values())
byte_pairs = BPETokenizer.train(text, vocab_size=5000)
words = WordTokenizer.train(text)

print(f"Byte-pair encoding learned {byte_pairs.vocab_size:,} tokens from {len(text):,} characters about Python.")
# %% How one word is made
print("\nThe merges of ' tokenization'. More frequent pairs are merged first:\n")
for step in byte_pairs.merge_steps(" tokenization"):
    parts = "|".join(part.decode() for part in step.tokens)
    why = "its bytes" if step.rank is None else f"merge {step.rank:,}, of a pair with {step.count:,} occurrences"
    print(f"  {parts:<27} {why}")

pieces = [byte_pairs.decode([token]) for token in byte_pairs.encode(" tokenization")]
print(f"\nThe result is {len(pieces)} tokens, {pieces}. No merge joins two of them.")
assert "".join(pieces) == " tokenization" and len(pieces) > 1

# %% New words
for word in (" tokenization", " antidisestablishmentarianism", " 東京"):
    ids = byte_pairs.encode(word)
    shown = [byte_pairs.token_bytes[token].decode("utf-8", "backslashreplace") for token in ids]
    print(f"\n{word.strip()!r} occurs {text.count(word)} times in the text.")
    print(f"  byte pairs: {shown}, decoded: {byte_pairs.decode(ids).strip()!r}")
    print(f"  words:      {words.encode(word)}, decoded: {words.decode(words.encode(word)).strip()!r}")
    assert byte_pairs.decode(ids) == word, "byte pairs lose nothing"
    assert words.decode(words.encode(word)).strip() == "<|unk|>", "the word is not among those of the text"
print("\nByte-pair encoding splits a new word into smaller tokens, at worst single bytes, and loses nothing.")
