"""GPT-2 in and out against ``transformers``: random models of unusual sizes, in both directions. No real weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npgpt
from npgpt.build import make_optimizer, twin
from npgpt.core import Array, Cache
from npgpt.model import GPT
from npgpt.runs import load_huggingface, load_huggingface_model, save_huggingface
from npgpt.runs.gpt2_config import ACTIVATIONS
from npgpt.runs.huggingface import gpt2_tensors
from npgpt.study.check.cases import of_order_one
from npgpt.tokenizer import END_OF_TEXT

pytestmark = pytest.mark.gpt2_peers

N_MODELS = 42
EACH = [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= 12)) for seed in range(N_MODELS)]
KEYS_BIAS = "attention.qkv.bias"


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers: the extra 'peers'")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    import torch

    torch.set_num_threads(1)  # a second one makes models as small as these slower


def drawn_config(seed: int) -> Any:
    """Return a configuration; every choice occurs several times in ``N_MODELS``."""
    from transformers import GPT2Config

    random = np.random.default_rng(seed)
    n_head = int(random.integers(1, 6))
    n_embd = n_head * int(random.integers(-(-6 // n_head), 10))  # norms of few channels amplify rounding
    return GPT2Config(
        vocab_size=int(random.integers(2, 90)),
        n_positions=int(random.integers(1, 40)),
        n_embd=n_embd,
        n_layer=int(random.integers(1, 4)),
        n_head=n_head,
        n_inner=[None, int(random.integers(1, 70))][seed % 2],
        activation_function=list(ACTIVATIONS)[seed % len(ACTIVATIONS)],
        layer_norm_epsilon=float(10.0 ** random.integers(-8, 0)),
        tie_word_embeddings=seed % 3 != 0,
        reorder_and_upcast_attn=seed % 5 == 0,
        attn_pdrop=[0.1, 0.3][seed % 2],
        bos_token_id=None,
        eos_token_id=None,
    )


def randomise(model: Any, seed: int) -> Any:
    """Give every parameter random values: gains about 1, weights so that activations are of order one."""
    import torch

    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, param in model.named_parameters():
            is_gain = ".ln_" in name and name.endswith("weight")
            scale = 0.2 if param.ndim == 1 else len(param) ** -0.5 if ".c_" in name else 0.5
            param.copy_(torch.randn(param.shape, generator=random) * scale + is_gain)
    return model.eval()


def save(model: Any, folder: Path, seed: int) -> None:
    """Save a model in one of the ways in which models are found."""
    import safetensors.torch  # which imports torch
    import torch

    kind = [torch.float32, torch.float16, torch.bfloat16][seed % 3 if seed % 2 else 0]
    sharded = {"max_shard_size": "9KB"} if seed % 4 == 0 else {}
    model.to(kind).save_pretrained(folder, **sharded)
    model.float()
    if seed % 4 == 1:  # as GPT2Model names them, and with the masks of old files
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        named = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        N = model.config.n_positions
        for i in range(model.config.n_layer):
            named[f"h.{i}.attn.bias"] = torch.tril(torch.ones(1, 1, N, N, dtype=torch.bool))
            named[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
        safetensors.torch.save_file(named, folder / "model.safetensors", {"format": "pt"})


def named(model: GPT, of: Callable[[Any], Array]) -> dict[str, Array]:
    """Return the values or gradients of a model by npgpt's names, without the keys' bias, whose exact gradient is 0."""
    C, found = model.config.n_embd, {}
    for name, param in model.parameters().items():
        value = of(param)
        found[name] = np.delete(value, slice(C, 2 * C)) if name.endswith(KEYS_BIAS) else value
    return found


def theirs_named(ours: GPT, model: Any, of: Callable[[Any], Any]) -> dict[str, Array]:
    params, C, found = dict(model.named_parameters()), ours.config.n_embd, {}
    for name, (our_name, _) in gpt2_tensors(ours.config).items():
        value = of(params[name if name == "lm_head.weight" else f"transformer.{name}"]).detach().numpy()
        found[our_name] = np.delete(value, slice(C, 2 * C)) if our_name.endswith(KEYS_BIAS) else value
    return found


def assert_same(ours: GPT, model: Any, seed: int) -> None:
    """Compare logits, hidden states and the gradients of all parameters."""
    import torch

    random, config = np.random.default_rng(seed), ours.config
    ids = random.integers(0, config.vocab_size, (2, config.context_length))
    cache = Cache()
    logits = ours.forward(ids, cache)
    found = model(torch.tensor(ids), output_hidden_states=True)
    hidden = [cache.scope(f"blocks.{i}")["x"] for i in range(config.n_layer)] + [cache["normed"]]
    for mine, their in zip([logits, *hidden], [found.logits, *found.hidden_states], strict=True):
        assert np.abs(mine - their.detach().numpy()).max() < 1e-4
    dlogits = random.normal(size=logits.shape).astype(np.float32)
    ours.zero_grad()
    ours.backward(dlogits, cache)
    model.zero_grad()
    found.logits.backward(torch.tensor(dlogits))
    least = 1e-3 * np.linalg.norm(dlogits)
    mine, their = named(ours, lambda param: param.grad), theirs_named(ours, model, lambda param: param.grad)
    assert mine.keys() == their.keys()
    for name, gradient in their.items():
        error = np.linalg.norm(mine[name] - gradient) / max(np.linalg.norm(gradient), least)
        assert error < 1e-4, (name, error)


def assert_same_steps(ours: GPT, model: Any) -> None:
    """Take ten AdamW steps with both. Its epsilon is large: a small one would divide rounding errors by themselves."""
    import torch

    matrices = [param for param in model.parameters() if param.ndim >= 2]
    vectors = [param for param in model.parameters() if param.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    settings = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-3}
    peer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-3)
    optimizer = make_optimizer(ours, **settings, weight_decay=0.1)
    random, config, cache = np.random.default_rng(0), ours.config, Cache()
    before = named(ours, lambda param: param.value.copy())
    for _ in range(10):
        ids = random.integers(0, config.vocab_size, (2, config.context_length + 1))
        x, y = np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:])
        cache.reset()
        ours.zero_grad()
        loss = float(ours.loss(x, y, cache))
        ours.loss_backward(1.0, cache)
        optimizer.step(1e-2)
        peer.zero_grad()
        logits = model(torch.tensor(x)).logits
        their_loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y).flatten())
        their_loss.backward()
        peer.step()
        assert abs(loss - their_loss.item()) < 1e-4
    after, their = named(ours, lambda param: param.value), theirs_named(ours, model, lambda param: param)
    for name, value in their.items():
        moved = np.linalg.norm(value - before[name])
        assert np.linalg.norm(after[name] - value) <= 1e-3 * moved, name


@pytest.mark.parametrize("seed", EACH)
def test_their_model_is_ours(seed: int, tmp_path: Path) -> None:
    import torch
    from transformers import GPT2LMHeadModel

    save(randomise(GPT2LMHeadModel(drawn_config(seed)), seed), tmp_path, seed)
    model = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours = load_huggingface_model(tmp_path)
    assert_same(ours, model, seed)
    if seed == 1 or seed == 6:
        assert_same(twin(ours, "textbook"), model, seed)
    # And back, to the bit
    save_huggingface(ours, tmp_path / "again")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "again").eval()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    if seed % 6 == 1:
        assert_same_steps(ours, model)


@pytest.mark.parametrize("seed", EACH)
def test_our_model_is_theirs(seed: int, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, GPT2LMHeadModel

    GPT2LMHeadModel(drawn_config(seed)).save_pretrained(tmp_path / "sizes")
    config = load_huggingface_model(tmp_path / "sizes").config
    ours = of_order_one(GPT(config), np.random.default_rng(seed))
    for norm in (ours.norm, *(norm for block in ours.blocks for norm in (block.attention_norm, block.mlp_norm))):
        norm.eps = config.layer_norm_epsilon
    ours = twin(ours)
    save_huggingface(ours, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    wanted = drawn_config(seed)
    same = ("n_inner", "layer_norm_epsilon", "embd_pdrop", "attn_pdrop", "resid_pdrop", "tie_word_embeddings")
    assert all(getattr(model.config, name) == getattr(wanted, name) for name in same)
    assert_same(ours, model, seed)
    again = load_huggingface_model(tmp_path / "out")
    assert again.config == config and again.flat.values.tobytes() == ours.flat.values.tobytes()


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k_base", "o200k_base", "none"])
def test_every_split_pattern_gives_the_same_ids(pattern: str, tmp_path: Path) -> None:
    """By itself, transformers splits the texts of any GPT-2 by the pattern gpt2."""
    from transformers import AutoTokenizer

    text = "The cat sat 12345 on the mat!!! don't DON'T  \n\n x = 1234567\n" * 5
    tokenizer = npgpt.BPETokenizer.train(text, 280, [END_OF_TEXT, "<|x|>"], pattern)
    model = GPT(npgpt.GPTConfig(tokenizer.vocab_size, 8, 1, 1, 8))
    save_huggingface(npgpt.Run(npgpt.RunConfig(model=model.config), tokenizer, model), tmp_path / "out")
    peer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert peer(text + "<|x|>")["input_ids"] == tokenizer.encode(text + "<|x|>", allowed_special={"<|x|>"})
    assert peer.eos_token == END_OF_TEXT
    peer.save_pretrained(tmp_path / "again")
    again = npgpt.BPETokenizer.from_huggingface(tmp_path / "again/tokenizer.json")
    assert again.encode(text) == tokenizer.encode(text)


@pytest.mark.filterwarnings("ignore:the validation text")
def test_a_trained_run_writes_the_same_greedy_text(tmp_path: Path) -> None:
    """A model trained here goes on there, and comes back; its tokenizer gives the same ids."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = "The cat sat on the mat, and the dog sat on the log. Über naïve 東京 😀\n" * 60
    sizes = npgpt.GPTConfig(vocab_size=290, context_length=32, n_layer=2, n_head=2, n_embd=16)
    config = npgpt.RunConfig(model=sizes, train=npgpt.TrainConfig(steps=60, batch_size=4, eval_every=60))
    run = npgpt.train_run(config, [text])
    save_huggingface(run, tmp_path / "gpt2")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "gpt2")
    for prompt in ("The cat", " naïve 東京 😀\n\n  x", END_OF_TEXT + "The"):
        assert tokenizer(prompt)["input_ids"] == run.tokenizer.encode(prompt, allowed_special={END_OF_TEXT})
    start = run.tokenizer.encode("The cat")
    end = run.tokenizer.special_tokens[END_OF_TEXT]
    assert model.config.eos_token_id == end
    ours = list(npgpt.generate(run.model, start, 20, temperature=0.0))
    with torch.no_grad():
        found = model.generate(torch.tensor([start]), do_sample=False, max_new_tokens=20, eos_token_id=None)
    assert found[0, len(start) :].tolist() == ours
    model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    back = load_huggingface(tmp_path / "theirs")
    assert list(npgpt.generate(back.model, back.tokenizer.encode("The cat"), 20, temperature=0.0)) == ours
    back.save(tmp_path / "run")
    assert npgpt.load_run(tmp_path / "run").model.flat.values.tobytes() == run.model.flat.values.tobytes()
