"""Folders of GPT-2 models without ``transformers``: every form of the weights, every refusal, hostile files."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npgpt.build import make_gpt, twin
from npgpt.cli import main
from npgpt.config import GPTConfig, RunConfig
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, DataError, NpgptError, RunError, TokenizerError
from npgpt.layers import MLP
from npgpt.memory import n_parameters
from npgpt.model import GPT
from npgpt.runs import Run, load_huggingface, load_huggingface_model, load_run, save_huggingface
from npgpt.runs.gpt2_config import FIXED, IRRELEVANT, OBEYED
from npgpt.tokenizer import BPETokenizer, CharTokenizer

SIZES = GPTConfig(vocab_size=257, context_length=6, n_layer=2, n_head=2, n_embd=4, n_inner=7, layer_norm_epsilon=1e-3)
TENSOR, BIAS = "transformer.h.1.mlp.c_fc.weight", "transformer.h.1.mlp.c_fc.bias"


def drawn(config: GPTConfig = SIZES) -> GPT:
    model = make_gpt(config, "textbook")
    model.flat.values[:] = np.random.default_rng(0).normal(size=len(model.flat.values))
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a GPT-2 with a tokenizer of bytes and the end of a text."""
    tokenizer = BPETokenizer([], ["<|endoftext|>"])
    save_huggingface(Run(RunConfig(model=SIZES), tokenizer, drawn()), tmp_path / "gpt2")
    return tmp_path / "gpt2"


def change(folder: Path, how: Callable[[dict[str, Array]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    how(tensors)
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, folder / "model.safetensors")


def set_fields(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))


def loaded(folder: Path) -> Array:
    return load_huggingface_model(folder, "textbook").flat.values


def test_round_trip_gives_the_same_bits(folder: Path) -> None:
    run = load_huggingface(folder, layers="textbook")
    assert run.config.model == SIZES and run.tokenizer.vocab_size == 257
    assert run.model.flat.values.tobytes() == drawn().flat.values.tobytes()
    save_huggingface(run, folder.with_name("again"))
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (folder / name).read_bytes() == (folder.with_name("again") / name).read_bytes()


def test_new_fields_reach_the_layers_and_survive_toml(tmp_path: Path) -> None:
    sizes = GPTConfig(n_inner=5, layer_norm_epsilon=0.25, dropout=0.5, attention_dropout=0.25, embedding_dropout=0)
    text = RunConfig(model=sizes).dumps()
    (tmp_path / "config.toml").write_text(text)
    assert RunConfig.load(tmp_path / "config.toml", complete=True).model == sizes
    assert not any(name in RunConfig().dumps() for name in ("n_inner", "attention_dropout"))  # TOML has no null
    model = GPT(sizes)
    block = model.blocks[0]
    found = model.dropout.p, block.attention.dropout.p, block.attention.residual_dropout.p, block.mlp.dropout.p
    assert found == (0, 0.25, 0.5, 0.5)
    assert model.norm.eps == block.mlp_norm.eps == block.attention_norm.eps == 0.25
    assert n_parameters(sizes) == sum(param.value.size for param in model.parameters().values())


@pytest.mark.parametrize("n_inner", [1, 7, 65])
def test_compiled_layers_take_any_hidden_size_and_three_dropouts(n_inner: int) -> None:
    config = GPTConfig(9, 5, 2, 2, 8, 0.2, attention_dropout=0.4, embedding_dropout=0.1, n_inner=n_inner)
    model, ids = drawn(config), np.arange(10).reshape(2, 5) % 9
    model.flat.values[:] *= 0.5
    found = []
    for each in (model, twin(model)):
        cache = Cache(training=True, seed=3)
        each.zero_grad()
        y = each.forward(ids, cache).copy()
        each.backward(np.sin(np.arange(y.size, dtype=np.float32)).reshape(y.shape), cache)
        found.append((y, each.flat.grads.copy()))
    for mine, compiled in zip(*found, strict=True):
        assert np.linalg.norm(mine - compiled) < 1e-5 * np.linalg.norm(mine)


def without_prefix(tensors: dict[str, Array]) -> None:
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    tensors["h.0.attn.bias"], tensors["h.0.attn.masked_bias"] = np.ones((1, 1, 6, 6), bool), np.array(-1e4)


def as_linear(tensors: dict[str, Array]) -> None:
    for name, x in tensors.items():
        if ".c_" in name and x.ndim == 2:
            tensors[name] = x.T


@pytest.mark.parametrize(
    "how", [without_prefix, as_linear, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"]})]
)
def test_other_forms_give_the_same_bits(folder: Path, how: Callable[[dict[str, Array]], Any]) -> None:
    change(folder, how)
    assert loaded(folder).tobytes() == drawn().flat.values.tobytes()


def test_16_bits_are_widened_exactly(folder: Path) -> None:
    change(folder, lambda t: t.update({name: x.astype(np.float16) for name, x in t.items()}))
    assert np.array_equal(loaded(folder), drawn().flat.values.astype(np.float16).astype(np.float32))
    tensors = {name: (x.view(np.uint32) >> 16).astype(np.uint16) for name, x in as_float32(folder).items()}
    save_file(tensors, folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes().replace(b'"U16"', b'"BF16"')
    grown = data.count(b'"BF16"')
    data = struct.pack("<Q", struct.unpack("<Q", data[:8])[0] + grown) + data[8:]
    (folder / "model.safetensors").write_bytes(data)
    expected = np.concatenate([x.ravel() for x in by_place(tensors)])
    assert np.array_equal(loaded(folder).view(np.uint32), expected.astype(np.uint32) << 16)


def as_float32(folder: Path) -> dict[str, Array]:
    return {name: x.astype(np.float32) for name, x in load_file(folder / "model.safetensors").items()}


def by_place(tensors: dict[str, Array]) -> list[Array]:
    """Return tensors in the order of the flat vector: matrices first."""
    from npgpt.runs.huggingface import gpt2_tensors

    model = GPT(SIZES)
    names = {ours: f"transformer.{name}" for name, (ours, _) in gpt2_tensors(SIZES).items()}
    place = {id(param): name for name, param in model.parameters().items()}
    return [tensors[names[place[id(param)]]] for param in model.flat.params]


def test_missing_biases_are_zeros_only_if_the_configuration_says_so(folder: Path) -> None:
    change(folder, lambda t: [t.pop(name) for name in list(t) if name.endswith(".bias")])
    with pytest.raises(DataError, match=r"h.0.attn.c_attn.bias \(12,\) is missing; .*\"bias\": false"):
        loaded(folder)
    set_fields(folder, bias=False)
    params = load_huggingface_model(folder, "textbook").parameters()
    assert not any(param.value.any() for name, param in params.items() if name.endswith("bias"))


def shard(folder: Path, changed: Callable[[dict[str, Any]], Any] = lambda weight_map: None) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {name: f"model-{1 + i % 2}-of-2.safetensors" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
    changed(weight_map)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def test_shards_and_links_as_the_hub_makes_them_are_read(folder: Path) -> None:
    shard(folder)
    blob = folder.with_name("blob")
    os.rename(folder / "model-1-of-2.safetensors", blob)
    (folder / "model-1-of-2.safetensors").symlink_to(blob)
    assert loaded(folder).tobytes() == drawn().flat.values.tobytes()


@pytest.mark.parametrize(
    "name", ["../blob.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 3, "x\0.safetensors"]
)
def test_an_index_names_files_of_its_folder_only(folder: Path, name: Any) -> None:
    shard(folder, lambda weight_map: weight_map.update({TENSOR: name}))
    with pytest.raises(DataError, match="expected the name of a .safetensors file in this folder"):
        loaded(folder)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda m: m.pop(TENSOR), "is in this file or in model.safetensors.index.json, not both"),
        (lambda m: m.update(extra="model-1-of-2.safetensors"), "'extra' is in this file or in"),
        (lambda m: m.update(extra="other.safetensors"), "other.safetensors is missing, which"),
    ],
)
def test_an_index_and_its_files_agree(folder: Path, changed: Callable[[dict[str, Any]], Any], says: str) -> None:
    shard(folder, changed)
    with pytest.raises(DataError, match=says):
        loaded(folder)


def put(name: str, value: Any) -> Callable[[dict[str, Array]], Any]:
    return lambda tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda t: t.pop(TENSOR), r"h.1.mlp.c_fc.weight \(4, 7\) is missing$"),
        (lambda t: t.pop("transformer.wte.weight"), r"wte.weight \(257, 4\) is missing$"),
        (put("h.1.mlp.c_fc.weight", np.zeros((4, 7), "f4")), "'h.1.mlp.c_fc.weight' stands there twice"),
        (put("transformer.h.1.mlp.c_gate.weight", np.zeros(3, "f4")), "'h.1.mlp.c_gate.weight' is unknown"),
        (put("transformer.h.2.ln_1.bias", np.zeros(4, "f4")), r"have 3 blocks, expected 2 \(n_layer\)"),
        (put(TENSOR, np.zeros((7, 4), "f4")), r"is F32 \(7, 4\), expected F32, F16 or BF16 \(4, 7\)"),
        (put(TENSOR, np.zeros((4, 7))), r"is F64 \(4, 7\), expected F32, F16 or BF16 \(4, 7\)"),
        (put(BIAS, np.full(7, np.nan, "f4")), "h.1.mlp.c_fc.bias has infinite or NaN values"),
        (put(BIAS, np.full(7, np.inf, "f2")), "h.1.mlp.c_fc.bias has infinite or NaN values"),
        (put("lm_head.weight", np.ones((257, 4), "f4")), "lm_head.weight is not equal to wte.weight"),
        (put("lm_head.weight", np.ones((4, 257), "f4")), r"is F32 \(4, 257\), expected"),
    ],
)
def test_each_tensor_that_does_not_fit_is_named(folder: Path, how: Callable[[Any], Any], says: str) -> None:
    change(folder, how)
    with pytest.raises(DataError, match=says):
        loaded(folder)


def test_an_untied_head_is_needed_and_kept(tmp_path: Path) -> None:
    model = drawn(GPTConfig(7, 4, 1, 2, 4, tie_weights=False))
    save_huggingface(model, tmp_path / "gpt2")
    assert loaded(tmp_path / "gpt2").tobytes() == model.flat.values.tobytes()
    change(tmp_path / "gpt2", lambda t: t.pop("lm_head.weight"))
    with pytest.raises(DataError, match=r"lm_head.weight \(7, 4\) is missing"):
        loaded(tmp_path / "gpt2")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model_type": "llama"}, "model_type is 'llama', .* it reads \"gpt2\""),
        ({"scale_attn_weights": False}, "scale_attn_weights is False, which npgpt does not support; it reads true"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"scale_attn_weights": 1}, "scale_attn_weights is 1"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is "),
        ({"rope_theta": 1e4}, "has the field 'rope_theta', which npgpt does not know"),
        ({"activation_function": "silu"}, "activation_function 'silu' is not one of gelu_new"),
        ({"activation_function": ["relu"]}, "activation_function must be a string"),
        ({"n_layer": 2**31 - 1}, r"have 2 blocks, expected 2147483647 \(n_layer\)"),
        ({"n_layer": 10**30}, "n_layer must be an integer of 64 bits"),
        ({"n_embd": 2**31 - 2}, r"wte.weight is F32 \(257, 4\), expected F32, F16 or BF16 \(257, 2147483646\)"),
        ({"n_inner": 2**30}, r"is F32 \(4, 7\), expected F32, F16 or BF16 \(4, 1073741824\)"),
        ({"n_positions": 2**30}, r"wpe.weight is F32 \(6, 4\)"),
        ({"n_positions": 5}, r"wpe.weight is F32 \(6, 4\), expected F32, F16 or BF16 \(5, 4\)"),
        ({"vocab_size": 258}, r"wte.weight is F32 \(257, 4\)"),
        ({"n_head": 3}, "config.json: n_embd 4 cannot be divided among n_head 3 heads"),
        ({"n_head": True}, "n_head must be an integer"),
        ({"attn_pdrop": 1.5}, "config.json: attention_dropout must be below 1"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon must be a number"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings must be true or false"),
    ],
)
def test_each_field_that_is_not_obeyed_is_named(folder: Path, fields: dict[str, Any], says: str) -> None:
    set_fields(folder, **fields)
    with pytest.raises((DataError, ConfigError), match=says):
        loaded(folder)


def test_missing_fields_are_those_of_gpt2_and_irrelevant_ones_change_nothing(folder: Path) -> None:
    assert not OBEYED.keys() & IRRELEVANT and not FIXED.keys() & IRRELEVANT
    set_fields(folder, **dict.fromkeys(IRRELEVANT, "anything"))
    assert loaded(folder).tobytes() == drawn().flat.values.tobytes()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DataError, match="have 2 blocks, expected 12"):
        loaded(folder)


HEADER = b'{"a": {"dtype": "F32", "shape": [9999999999, 9], "data_offsets": [0, 4]}}'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is damaged, or not a safetensors file"),
        (b"\x00" * 7, "is damaged, or not a safetensors file"),
        (b"\xff" * 8 + b"{}", "a header of 18,446,744,073,709,551,615 bytes is too large"),
        (struct.pack("<Q", len(HEADER)) + HEADER + b"1234", "is damaged, or not a safetensors file"),
        (struct.pack("<Q", 2) + b"{}", "they have 0 blocks, expected 2"),
        (b"\x80\x04\x95", "is damaged, or not a safetensors file"),
    ],
)
def test_a_file_that_lies_is_refused(folder: Path, data: bytes, says: str) -> None:
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(DataError, match=says):
        loaded(folder)


def test_a_file_that_was_cut_or_is_a_pickle_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="is damaged"):
        loaded(folder)
    path.unlink()
    path.symlink_to(path)  # a loop
    with pytest.raises(DataError, match="reads no pickles such as pytorch_model.bin"):
        loaded(folder)
    for content in ("[]", "{", '{"n_head": 1, "n_head": 2}', '{"n_head": NaN}'):
        (folder / "config.json").write_text(content)
        with pytest.raises(DataError, match="config.json"):
            loaded(folder)


def test_a_tokenizer_is_found_given_or_asked_for(folder: Path) -> None:
    tokenizer = BPETokenizer([], ["<|endoftext|>"])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match="has no vocabulary: .* give one with --vocab"):
        load_huggingface(folder)
    tokenizer.to_gpt2(folder / "vocab.json", folder / "merges.txt")
    assert load_huggingface(folder).tokenizer.encode("é") == tokenizer.encode("é")
    BPETokenizer([(97, 98)]).save(folder.with_name("small.json"))
    with pytest.raises(TokenizerError, match=r"small.json: the vocabulary has 258 tokens, expected 257 \(vocab_size"):
        load_huggingface(folder, folder.with_name("small.json"))
    BPETokenizer([], ["<end>"]).save(folder.with_name("without.json"))
    with pytest.raises(TokenizerError, match=r"has no special token <\|endoftext\|>"):
        load_huggingface(folder, folder.with_name("without.json"))


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        *[
            ({"positions": scheme}, f"positions '{scheme}' cannot become a GPT-2: it")
            for scheme in ("sinusoidal", "relative-bias", "relative-keys", "rotary", "alibi", "none")
        ],
        ({"combine": "concatenate"}, "combine 'concatenate' cannot become a GPT-2, which adds"),
        ({"combine": "concatenate-unprojected", "n_position": 2, "tie_weights": False}, "cannot become a GPT-2"),
    ],
)
def test_what_gpt2_cannot_express_is_refused(tmp_path: Path, sizes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        save_huggingface(make_gpt(GPTConfig(7, 4, 1, 2, 4, **sizes), "textbook"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_own_layers_other_tokenizers_and_full_folders_are_refused(tmp_path: Path) -> None:
    class OwnMLP(MLP):
        pass

    sizes = GPTConfig(3, 4, 1, 2, 4)
    run = Run(RunConfig(model=sizes), CharTokenizer(["a"]), make_gpt(sizes, "textbook"))
    with pytest.raises(TokenizerError, match="a tokenizer of kind 'char' cannot become a GPT-2's"):
        save_huggingface(run, tmp_path / "out")
    model = make_gpt(sizes, "textbook")
    model.blocks[0].mlp = OwnMLP(4)
    with pytest.raises(ConfigError, match="OwnMLP is not a layer of npgpt"):
        save_huggingface(model, tmp_path / "out")
    model = make_gpt(sizes, "textbook")
    model.norm.eps = 0.5
    with pytest.raises(ConfigError, match="a norm has eps 0.5, expected 1e-05"):
        save_huggingface(model, tmp_path / "out")
    model = make_gpt(sizes, "textbook")
    model.norm.bias.value[0] = np.nan
    with pytest.raises(RunError, match="norm.bias have infinite or NaN values"):
        save_huggingface(model, tmp_path / "out")
    with pytest.raises(ConfigError, match="model must be a Run or a GPT, not 3"):
        save_huggingface(3, tmp_path / "out")  # type: ignore[arg-type]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes").write_text("mine")
    with pytest.raises(RunError, match="out exists and is not an empty folder"):
        save_huggingface(make_gpt(sizes, "textbook"), tmp_path / "out")


def test_the_command_converts_in_both_directions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, again = folder.with_name("run"), folder.with_name("again")
    assert main(["convert", str(folder), str(run)]) == 0
    assert capsys.readouterr().out == f"{n_parameters(SIZES):,} parameters are a run in {run}\n"
    assert load_run(run).model.flat.values.tobytes() == drawn().flat.values.tobytes()
    assert main(["sample", str(run), "--max-tokens", "2"]) == 0
    assert main(["convert", str(run), str(again)]) == 0
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    capsys.readouterr()
    for arguments, says in [
        ((folder, run), "already holds a run"),
        ((run, again), "is not an empty folder"),
        ((run, folder.with_name("b"), "--vocab", "x"), "--vocab is for the folder of a GPT-2"),
        ((folder.parent, folder.with_name("b")), "config.json is missing"),
        ((folder.with_name("nowhere"), folder.with_name("b")), "config.json is missing"),
    ]:
        assert main(["convert", *map(str, arguments)]) == 2
        assert says in capsys.readouterr().err


def test_every_damaged_byte_is_refused_or_read(folder: Path) -> None:
    """A byte of the header or of config.json is changed: npgpt's error, or the same shapes."""
    for name, size in (("config.json", 800), ("model.safetensors", 400)):
        good = (folder / name).read_bytes()
        for at in range(0, min(size, len(good)), 7):
            for value in (0, 34, 57, 255):
                (folder / name).write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
                try:
                    loaded(folder)
                except NpgptError as error:
                    assert len(str(error)) < 700
        (folder / name).write_bytes(good)
