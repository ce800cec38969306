"""What does `npgpt train` do, step by step, in Python?

Text to ids, ids to windows, windows to a loss, the loss to gradients, gradients to weights, and a sample at the end: on
a short text, in half a minute.
"""

from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.data import builtin_texts, encode_texts, split_text
from npgpt.sampling import generate
from npgpt.tokenizer import BPETokenizer
from npgpt.train import evaluate, training_steps

# 1. Text: the end of each document is kept apart, to be asked about what was never seen.
parts = [split_text(text, validation_fraction=0.1) for text in builtin_texts()]
train_texts = [train for train, _ in parts]

# 2. A tokenizer, learned from the training text alone; then all text as ids.
tokenizer = BPETokenizer.train(train_texts, vocab_size=300)
ids = encode_texts(tokenizer, train_texts)
validation_ids = encode_texts(tokenizer, [end for _, end in parts])[:5000]
print(f"{len(ids):,} tokens; the vocabulary begins to know words: {tokenizer.token_bytes[-15:-1]}")

# 3. A model that knows nothing: as surprised as if each token were as likely as any other.
model = make_gpt(GPTConfig(tokenizer.vocab_size, context_length=32, n_layer=2, n_head=2, n_embd=48))
before = evaluate(model, validation_ids)
print(f"before training   {before:.3f} nats per token")
print(f"unigram           {unigram_loss(ids, validation_ids, tokenizer.vocab_size):.3f}   (how frequent is a token?)")
print(
    f"bigram            {bigram_loss(ids, validation_ids, tokenizer.vocab_size):.3f}   (what follows the one before?)"
)

# 4. Training. Each step: forward, loss, backward, clip, AdamW.
config = TrainConfig(steps=400, batch_size=16, learning_rate=5e-3)
for step in training_steps(model, ids, config):
    if step.number % 100 == 0:
        loss = evaluate(model, validation_ids)
        print(f"step {step.number:>4}         {loss:.3f}   (learning rate {step.learning_rate:.4f})")

# 5. Its own words.
prompt = tokenizer.encode("The ")
print("a sample:", repr("The " + tokenizer.decode(generate(model, prompt, 60, temperature=0.7))))
assert loss < unigram_loss(ids, validation_ids, tokenizer.vocab_size) < before
