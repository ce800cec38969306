"""The settings in Hugging Face's ``tokenizer.json``: each is obeyed, has no effect on ids, or is refused by name.

A setting that stands in no table below is refused as well: later versions of that library may give it a meaning.
"""

import json
from collections.abc import Mapping
from typing import Any

from npgpt.errors import TokenizerError, quote
from npgpt.support.json_files import field

# The texts of each split pattern. Only these are recognised; the first one is written. Without a Split, ByteLevel alone
# splits by gpt2 or (use_regex false) not at all: the pattern none.
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_CAPITALS, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
HUGGING_FACE_PATTERNS = {
    "gpt2": (
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    "cl100k_base": (
        # \s+\z before the line ends, as tiktoken has had it since 2024.
        _CONTRACTION + "|" + _WORD + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "o200k_base": (
        f"{_WORD}{_CAPITALS}*{_SMALL}+{_CONTRACTION}?|{_WORD}{_CAPITALS}+{_SMALL}*{_CONTRACTION}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}

# Each table has the values that npgpt reads, or their type. A field may be missing if None is among its values (then it
# is None), or if the library has a default for it.
_Values = tuple[Any, ...] | type
_FLAG = (False, True)
_DEFAULTS = {"version": "1.0", "added_tokens": [], "type": "BPE", "use_regex": True}
FILE: dict[str, _Values] = {
    "version": ("1.0",),
    "truncation": (None,),  # it cuts long texts
    "padding": (None,),  # it adds ids to short texts
    "added_tokens": list,
    "normalizer": (None,),  # it changes the text
    "pre_tokenizer": (None, dict),
    "post_processor": (None, dict),
    "decoder": (None, dict),
    "model": dict,
}
MODEL: dict[str, _Values] = {
    "type": ("BPE",),
    "dropout": (None, 0, 0.0),
    "unk_token": (None, str),  # no effect: every byte has a token
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (None, *_FLAG),  # no effect: every byte has a token
    "byte_fallback": (None, False),
    "ignore_merges": (None, *_FLAG),  # true is obeyed if merging also makes all tokens
    "vocab": dict,
    "merges": list,
}
ADDED_TOKEN: dict[str, _Values] = {
    "id": int,
    "content": str,
    "single_word": (False,),  # true finds it only between other characters than letters
    "lstrip": (False,),  # true takes the white space before it
    "rstrip": (False,),
    "normalized": _FLAG,  # no effect without a normalizer, if it is the same for all
    "special": (True,),  # other tokens belong to ordinary text; npgpt finds only those that the caller allows
}
BYTE_LEVEL: dict[str, _Values] = {
    "type": ("ByteLevel",),
    "add_prefix_space": (False,),
    "trim_offsets": _FLAG,  # no effect on ids
    "use_regex": _FLAG,  # true splits by the pattern gpt2
}
BYTE_LEVEL_AFTER = BYTE_LEVEL | {"add_prefix_space": _FLAG}  # as post_processor and decoder: no effect on ids
TEMPLATE: dict[str, _Values] = {  # as a post_processor that adds no ids: transformers 5 writes it for GPT-2
    "type": ("TemplateProcessing",),
    "single": ([{"Sequence": {"id": "A", "type_id": 0}}],),
    "pair": list,
    "special_tokens": dict,
}
SEQUENCE: dict[str, _Values] = {"type": ("Sequence",), "pretokenizers": list}
SPLIT: dict[str, _Values] = {"type": ("Split",), "pattern": dict, "behavior": str, "invert": _FLAG}


def settings(record: Any, place: str, table: Mapping[str, _Values]) -> dict[str, Any]:
    """Return the fields of a table, all with values that npgpt reads.

    Raises
        TokenizerError that names the first other field or value.
    """
    if not isinstance(record, dict):
        raise TokenizerError(f"{place} must be an object, not {quote(record)}")
    if unknown := record.keys() - table.keys():
        raise TokenizerError(
            f"{place} has the field {quote(min(unknown))}, which npgpt does not know; it may change ids"
        )
    optional = [name for name, values in table.items() if isinstance(values, tuple) and None in values]
    given: dict[str, Any] = dict.fromkeys(optional) | _DEFAULTS | record
    for name, values in table.items():
        if isinstance(values, type) or name not in given:
            field(given, name, values, place)  # raises if it is missing or of another type
            continue
        value = given[name]
        if not any(type(value) is one or (type(value) is type(one) and value == one) for one in values):
            names = " or ".join(one.__name__ if isinstance(one, type) else json.dumps(one) for one in values)
            raise TokenizerError(
                f"{place}: {name} is {quote(value, 100)}, which npgpt does not support; it reads {names}"
            )
    return given


def special_tokens_of(added: list[Any]) -> dict[str, int]:
    """Return text -> id of the added tokens, which npgpt calls special."""
    specials: dict[str, int] = {}
    normalized = set()
    for record in added:
        if not isinstance(record, dict) or type(record.get("id")) is not int or type(record.get("content")) is not str:
            raise TokenizerError(f"added token {quote(record)} must have a content and an id")
        text, token = record["content"], record["id"]
        normalized.add(settings(record, f"added token {quote(text)}", ADDED_TOKEN)["normalized"])
        if text in specials:
            raise TokenizerError(f"added token {quote(text)} is given twice")
        specials[text] = token
    if len(normalized) == 2:
        raise TokenizerError("added tokens with normalized true and false are not supported together")
    return specials


def check_added_ids(specials: Mapping[str, int], vocab: Mapping[str, int]) -> None:
    """Refuse added tokens whose ids the library would ignore: it numbers tokens outside the vocab consecutively."""
    last = len(vocab) - 1
    for text, token in specials.items():
        given = vocab.get(text, last + 1)
        last = max(last, given)
        if token != given and token in vocab.values():
            raise TokenizerError(f"id {quote(token)} is given to two tokens, one of them {quote(text)}")
        if token != given:
            raise TokenizerError(f"added token {quote(text)} has the id {quote(token)}, expected {quote(given)}")


def pattern_of(pre_tokenizer: Any) -> str:
    """Return the name of the split pattern of a pre-tokenizer."""
    place = "pre_tokenizer"
    steps = [pre_tokenizer]
    if _type(pre_tokenizer) == "Sequence":
        steps = settings(pre_tokenizer, place, SEQUENCE)["pretokenizers"]
        place = f"{place}.pretokenizers"
    if not steps or _type(steps[-1]) != "ByteLevel":
        raise TokenizerError(f"{place} must end in ByteLevel, not in {quote(steps[-1:])}")
    by_gpt2 = settings(steps[-1], f"{place}: ByteLevel", BYTE_LEVEL)["use_regex"]
    if len(steps) == 1:
        return "gpt2" if by_gpt2 else "none"
    given = quote([_type(step) for step in steps], 100)
    if len(steps) == 2 and _type(steps[0]) == "Split":
        split = settings(steps[0], f"{place}: Split", SPLIT)
        source, behavior, invert = split["pattern"], split["behavior"], split["invert"]
        # The patterns match everything, so these two do the same; with "Isolated", invert has no effect.
        isolates = behavior == "Isolated" or (behavior == "Removed" and invert)
        names = [name for name, known in HUGGING_FACE_PATTERNS.items() if source in [{"Regex": text} for text in known]]
        if names and isolates and not by_gpt2:
            return names[0]
        given = f"behavior {quote(behavior)}, invert {invert}, use_regex {by_gpt2}" if names else quote(source, 150)
    known = ", ".join(HUGGING_FACE_PATTERNS)
    raise TokenizerError(
        f"{place}: the split by {given} is unknown; known: {known}, each with behavior 'Isolated', and use_regex false "
        "in the ByteLevel after it"
    )


def check_after(data: Mapping[str, Any]) -> None:
    """Refuse a post_processor or a decoder that adds ids, or makes another text of them."""
    for name in ("post_processor", "decoder"):
        step = data[name]  # None is no post_processor; without a decoder the library shows the names of tokens
        if name == "post_processor" and _type(step) == "TemplateProcessing":
            settings(step, name, TEMPLATE)
        elif step is not None:
            if _type(step) != "ByteLevel":
                raise TokenizerError(f"{name} is {quote(step, 100)}, which npgpt does not support; it reads ByteLevel")
            settings(step, name, BYTE_LEVEL_AFTER)


def _type(step: Any) -> Any:
    return step.get("type") if isinstance(step, dict) else None


def written_settings(pattern: str, special_tokens: Mapping[str, int]) -> dict[str, Any]:
    """Return all of a ``tokenizer.json`` except the model's vocab and merges."""
    gpt2 = pattern == "gpt2"  # the pattern that ByteLevel includes
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": gpt2}
    steps: list[dict[str, Any]] = [byte_level]
    if not gpt2 and pattern in HUGGING_FACE_PATTERNS:
        source = {"Regex": HUGGING_FACE_PATTERNS[pattern][0]}
        steps.insert(0, {"type": "Split", "pattern": source, "behavior": "Isolated", "invert": False})
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, "content": text} | flags for text, token in special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
        },
    }
