"""The fields of a GPT-2's ``config.json``: each is obeyed, has no effect on results, or is refused by name.

A field that stands in no table below is refused as well: it may change what the model computes.
"""

import json
from pathlib import Path
from typing import Any

from npgpt.config import DROPOUTS, GPTConfig
from npgpt.errors import ConfigError, DataError, quote
from npgpt.support.json_files import field, read_json

# Field -> (field of GPTConfig, value if it is missing, type of the value).
OBEYED: dict[str, tuple[str, Any, type]] = {
    "vocab_size": ("vocab_size", 50257, int),
    "n_positions": ("context_length", 1024, int),
    "n_embd": ("n_embd", 768, int),
    "n_layer": ("n_layer", 12, int),
    "n_head": ("n_head", 12, int),
    "n_inner": ("n_inner", None, int),
    "activation_function": ("activation", "gelu_new", str),
    "layer_norm_epsilon": ("layer_norm_epsilon", 1e-5, float),
    "resid_pdrop": ("dropout", 0.1, float),
    "embd_pdrop": ("embedding_dropout", 0.1, float),
    "attn_pdrop": ("attention_dropout", 0.1, float),
    "tie_word_embeddings": ("tie_weights", True, bool),
}
# Hugging Face's name -> that of npgpt. The first name of each function is written.
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
}
# Only these values are read. They are those of a missing field, too, and all are written.
FIXED: dict[str, Any] = {
    "model_type": "gpt2",
    "scale_attn_weights": True,  # false leaves out the division by the root of the head size
    "scale_attn_by_inverse_layer_idx": False,  # true divides the scores of block i by i + 1
    "add_cross_attention": False,  # true adds a second attention to each block
}
SAFE: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "bias": (True, False),  # of nanoGPT's models: false reads a missing bias as zeros
    "quantization_config": (None,),  # its weights would need decoding
    "cross_attention_hidden_size": (None,),
}
# No effect on logits and gradients: names, numbers for other heads, what is returned, defaults of generation.
# reorder_and_upcast_attn computes the same scores, in float32, as npgpt always does.
IRRELEVANT = set(
    """architectures transformers_version dtype torch_dtype _name_or_path name_or_path reorder_and_upcast_attn n_ctx
    initializer_range use_cache bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id
    tokenizer_class summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout
    id2label label2id num_labels _num_labels problem_type finetuning_task task_specific_params output_hidden_states
    output_attentions output_past return_dict chunk_size_feed_forward gradient_checkpointing is_decoder
    tie_encoder_decoder torchscript use_bfloat16 tf_legacy_loss attn_implementation _attn_implementation
    _attn_implementation_autoset max_length min_length do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate
    forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens prefix""".split()  # noqa: SIM905
)
# Position scheme -> why GPT-2 has no place for it.
NOT_IN_GPT2 = {
    "sinusoidal": "its position vectors are a trained table",
    "relative-bias": "it adds no bias for distances to the scores",
    "relative-keys": "it has no keys for distances",
    "rotary": "it does not rotate queries and keys",
    "alibi": "it subtracts no distances from the scores",
    "none": "it adds a trained vector for each position",
}


def read_config(path: Path) -> tuple[GPTConfig, bool]:
    """Return the configuration of a GPT-2, and whether its biases may be missing.

    Raises
        DataError that names the field which npgpt does not know or whose value it does not read; ConfigError if sizes
        contradict each other.
    """
    place, given = str(path), read_json(path)
    if not isinstance(given, dict):
        raise DataError(f"{place} must be an object, not {quote(given)}")
    read = {name: (value,) for name, value in FIXED.items()} | SAFE
    for name, values in read.items():
        if name in given and not any(type(given[name]) is type(one) and given[name] == one for one in values):
            raise DataError(
                f"{place}: {name} is {quote(given[name])}, which npgpt does not support; it reads "
                f"{' or '.join(map(json.dumps, values))}"
            )
    if unknown := sorted(given.keys() - OBEYED.keys() - read.keys() - IRRELEVANT):
        raise DataError(
            f"{place} has the field {quote(unknown[0])}, which npgpt does not know; it may change what the model "
            "computes; remove the field if it does not"
        )
    if "model_type" not in given:
        raise DataError(f'{place} has no model_type; npgpt reads "gpt2"')
    found: dict[str, Any] = {}
    for name, (ours, default, kind) in OBEYED.items():
        missing = name not in given or (given[name] is None and default is None)
        found[ours] = default if missing else field(given, name, kind, place)
    if found["activation"] not in ACTIVATIONS:
        raise DataError(
            f"{place}: activation_function {quote(found['activation'])} is not one of {', '.join(ACTIVATIONS)}"
        )
    found["activation"] = ACTIVATIONS[found["activation"]]
    if len({found[name] for name in DROPOUTS}) == 1:  # one number for all three: a flag may change it
        found |= dict.fromkeys(DROPOUTS[1:])
    try:
        return GPTConfig(**found), not given.get("bias", True)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def written_config(config: GPTConfig, end_of_text: int | None) -> dict[str, Any]:
    """Return the content of ``config.json`` for a model.

    Args
        end_of_text: the id of the token at the end of a text.
    Raises
        ConfigError if GPT-2 cannot express the model, with the reason.
    """
    if config.positions in NOT_IN_GPT2:
        raise ConfigError(
            f"positions {config.positions!r} cannot become a GPT-2: {NOT_IN_GPT2[config.positions]}; train with "
            "positions 'learned' (--positions learned)"
        )
    if config.combine != "add":
        raise ConfigError(f"combine {config.combine!r} cannot become a GPT-2, which adds position vectors; use 'add'")
    found: dict[str, Any] = {name: getattr(config, ours) for name, (ours, _, _) in OBEYED.items()}
    for name in ("embd_pdrop", "attn_pdrop"):
        found[name] = config.dropout if found[name] is None else found[name]
    activation = next(name for name, ours in ACTIVATIONS.items() if ours == config.activation)
    ids = {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    return {"architectures": ["GPT2LMHeadModel"]} | FIXED | found | {"activation_function": activation} | ids
