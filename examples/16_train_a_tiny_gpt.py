"""What does `npgpt train` do, step by step, in Python?

Text becomes ids, ids become windows, and windows give a loss. The loss gives gradients, and gradients change the
weights. A sample comes at the end. The text is short: the run takes half a minute.
"""

from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.data import builtin_texts, encode_texts, split_text
from npgpt.sampling import generate
from npgpt.tokenizer import BPETokenizer
from npgpt.train import evaluate, training_steps

# %% 1. Text. The end of each document is the validation set.
parts = [split_text(text, validation_fraction=0.1) for text in builtin_texts()]
train_texts = [train for train, _ in parts]

# %% 2. A tokenizer, trained on the training text only; then all text as ids.
tokenizer = BPETokenizer.train(train_texts, vocab_size=300)
ids = encode_texts(tokenizer, train_texts)
validation_ids = encode_texts(tokenizer, [end for _, end in parts])[:5000]
print(f"{len(ids):,} tokens; the last merges made {tokenizer.token_bytes[-15:-1]}")

# %% 3. An untrained model. Its loss is about that of a uniform guess.
model = make_gpt(GPTConfig(tokenizer.vocab_size, context_length=32, n_layer=2, n_head=2, n_embd=48))
before = evaluate(model, validation_ids)
print(f"before training   {before:.3f} nats per token")
unigram, bigram = (of(ids, validation_ids, tokenizer.vocab_size) for of in (unigram_loss, bigram_loss))
print(f"unigram           {unigram:.3f}   (predicts by frequency)")
print(f"bigram            {bigram:.3f}   (predicts by the last token)")

# %% 4. Training. Each step: forward, loss, backward, clipping, AdamW.
config = TrainConfig(steps=400, batch_size=16, learning_rate=5e-3)
for step in training_steps(model, ids, config):
    if step.number % 100 == 0:
        loss = evaluate(model, validation_ids)
        print(f"step {step.number:>4}         {loss:.3f}   (learning rate {step.learning_rate:.4f})")

# %% 5. A sample.
prompt = tokenizer.encode("The ")
print("a sample:", repr("The " + tokenizer.decode(generate(model, prompt, 60, temperature=0.7))))
where = "above" if loss > bigram else "below"
print(
    f"The loss ends {abs(loss - bigram):.3f} nats {where} the bigram's. `npgpt train` trains a larger model for longer."
)
assert loss < unigram < before and abs(loss - bigram) < 0.5
