"""Why does the model see *tokenization* as three pieces, and what does it do with a word it never saw?"""

import pydoc_data.topics

from npgpt.tokenizer import BPETokenizer, WordTokenizer

# Something to learn from that is on every machine: Python's own help texts.
text = "\n".join(pydoc_data.topics.topics.values())
byte_pairs = BPETokenizer.train(text, vocab_size=5000)
words = WordTokenizer.train(text)

print(f"Learned from {len(text):,} characters about Python: {byte_pairs.vocab_size:,} tokens of byte pairs.")
print("\nHow ' tokenization' comes together. A pair is joined the earlier, the more often it was seen:\n")
for step in byte_pairs.merge_steps(" tokenization"):
    parts = "|".join(part.decode() for part in step.tokens)
    why = "its bytes" if step.rank is None else f"merge {step.rank:,}, a pair seen {step.count:,} times"
    print(f"  {parts:<27} {why}")

pieces = [byte_pairs.decode([token]) for token in byte_pairs.encode(" tokenization")]
print(f"\nSo it is {len(pieces)} pieces, {pieces}: each is frequent in this text; what is longer was not.")

for word in (" tokenization", " antidisestablishmentarianism", " 東京"):
    ids = byte_pairs.encode(word)
    shown = [byte_pairs.token_bytes[token].decode("utf-8", "backslashreplace") for token in ids]
    print(f"\n{word.strip()!r} stands {text.count(word)} times in the text.")
    print(f"  byte pairs: {shown}, and back: {byte_pairs.decode(ids).strip()!r}")
    print(f"  words:      {words.encode(word)}, and back: {words.decode(words.encode(word)).strip()!r}")
print("\nA word that was never seen becomes smaller pieces, single bytes at worst, and nothing is lost.")
