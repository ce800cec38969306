"""Every setting of a tokenizer.json is obeyed, has no effect on ids, or is refused by name."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from npgpt.tokenizer import END_OF_TEXT, BPETokenizer, TokenizerError
from npgpt.tokenizer.bpe_huggingface import HUGGING_FACE_PATTERNS

TOKENIZER = BPETokenizer.train("the theme of the thesis, the théâtre 🙂🙂 dog's dog's  cats\n\n", 275)
TEXTS = [
    f" the theme{END_OF_TEXT} the  thesis's\r\n\n dogs 🙂é",
    f"{END_OF_TEXT}  {END_OF_TEXT}",
    "",
    " ",
    "12345 I'LL <x> the<x>",
]
N = TOKENIZER.vocab_size
PATTERN = HUGGING_FACE_PATTERNS["gpt2"][0]
MISSING = object()

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
AFTER_SPLIT = BYTE_LEVEL | {"use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
TEMPLATE = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "th", "type_id": 0}}], "pair": []}
ADDED = {"id": N - 1, "content": END_OF_TEXT, "single_word": False, "lstrip": False, "rstrip": False}
ADDED |= {"normalized": False, "special": True}


def sequence(*steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(**fields: Any) -> list[Any]:
    return [ADDED, ADDED | {"content": "<x>", "id": N} | fields]


# What is set, and to what: the ids do not change, except by a second added token.
READ: list[tuple[str, Any]] = [
    ("version", MISSING),
    *[(name, MISSING) for name in ("truncation", "padding", "normalizer", "post_processor", "decoder")],
    ("added_tokens", added()),
    ("added_tokens.0.normalized", True),
    ("pre_tokenizer.trim_offsets", False),
    ("pre_tokenizer.use_regex", MISSING),
    *[("pre_tokenizer", sequence(*steps)) for steps in ([BYTE_LEVEL], [SPLIT, AFTER_SPLIT])],
    ("pre_tokenizer", sequence(SPLIT | {"invert": True}, AFTER_SPLIT)),
    ("pre_tokenizer", sequence(SPLIT | {"invert": True, "behavior": "Removed"}, AFTER_SPLIT)),
    ("post_processor", BYTE_LEVEL | {"add_prefix_space": True, "trim_offsets": False}),
    ("post_processor", TEMPLATE | {"single": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}}),
    ("decoder", BYTE_LEVEL | {"add_prefix_space": True, "use_regex": False}),
    *[("model.dropout", value) for value in (MISSING, 0, 0.0)],
    *[("model.unk_token", value) for value in (MISSING, "th", "", "<nothing>")],
    *[("model.continuing_subword_prefix", value) for value in (MISSING, "")],
    *[("model.end_of_word_suffix", value) for value in (MISSING, "")],
    *[("model.fuse_unk", value) for value in (MISSING, None, True)],
    *[("model.byte_fallback", value) for value in (MISSING, None)],
    *[("model.ignore_merges", value) for value in (MISSING, None, True)],
    ("model.type", MISSING),
]

REFUSED: list[tuple[str, Any, str]] = [
    ("version", "2.0", "the file: version is '2.0'.*it reads \"1.0\""),
    ("truncation", {"max_length": 4}, "truncation is {'max_length': 4}"),
    ("padding", {"strategy": {"Fixed": 9}}, "padding is {'strategy'"),
    ("normalizer", {"type": "NFC"}, "normalizer is {'type': 'NFC'}.*it reads null"),
    ("normalizer", {}, "normalizer is {}"),
    ("new", None, "the file has the field 'new'"),
    ("added_tokens", {}, "added_tokens must be a list, not {}"),
    ("added_tokens", [ADDED, ADDED], "'<|endoftext|>' is given twice"),
    ("added_tokens", added(id=N + 1), f"'<x>' has the id {N + 1}, expected {N}"),
    ("added_tokens", added(content="th"), f"'th' has the id {N}, expected 256"),
    ("added_tokens", added(normalized=True), "normalized true and false"),
    ("added_tokens", added(id=10**30), "id must be an integer of 64 bits, not 1000"),
    ("added_tokens", added(id=2.0), "must have a content and an id"),
    ("added_tokens", added(content=["x"]), "must have a content and an id"),
    ("added_tokens.0.special", False, "'<|endoftext|>': special is False"),
    ("added_tokens.0.single_word", True, "single_word is True"),
    ("added_tokens.0.lstrip", True, "lstrip is True"),
    ("added_tokens.0.rstrip", 1, "rstrip is 1"),
    ("added_tokens.0.rstrip", MISSING, "the field 'rstrip' is missing"),
    ("added_tokens.0.new", 1, "has the field 'new'"),
    ("pre_tokenizer", None, "must end in ByteLevel, not in .None"),
    ("pre_tokenizer", sequence(), "must end in ByteLevel"),
    ("pre_tokenizer", sequence(BYTE_LEVEL, {"type": "Digits"}), "must end in ByteLevel, not in .{'type': 'Digits'}"),
    ("pre_tokenizer", sequence({"type": "Digits"}, BYTE_LEVEL), r"the split by \['Digits', 'ByteLevel'\] is unknown"),
    ("pre_tokenizer", sequence(SPLIT, SPLIT, AFTER_SPLIT), r"the split by \['Split', 'Split', 'ByteLevel'\]"),
    ("pre_tokenizer", sequence(SPLIT, BYTE_LEVEL), "invert False, use_regex True is unknown"),
    ("pre_tokenizer", sequence(SPLIT | {"behavior": "Removed"}, AFTER_SPLIT), "behavior 'Removed', invert False"),
    ("pre_tokenizer", sequence(SPLIT | {"behavior": "Contiguous"}, AFTER_SPLIT), "behavior 'Contiguous'"),
    ("pre_tokenizer", sequence(SPLIT | {"pattern": {"String": " "}}, AFTER_SPLIT), "the split by {'String': ' '}"),
    ("pre_tokenizer", sequence(SPLIT | {"invert": None}, AFTER_SPLIT), "invert is None"),
    ("pre_tokenizer", sequence(SPLIT | {"new": 1}, AFTER_SPLIT), "Split has the field 'new'"),
    ("pre_tokenizer", sequence(BYTE_LEVEL) | {"new": 1}, "pre_tokenizer has the field 'new'"),
    ("pre_tokenizer.add_prefix_space", True, "add_prefix_space is True"),
    ("pre_tokenizer.add_prefix_space", MISSING, "'add_prefix_space' is missing"),
    ("pre_tokenizer.use_regex", "no", "use_regex is 'no'"),
    ("pre_tokenizer.new", 1, "ByteLevel has the field 'new'"),
    ("post_processor", TEMPLATE, "post_processor: single is .*'SpecialToken'.* it reads .*Sequence"),
    ("post_processor", {}, "post_processor is {}"),
    ("post_processor.new", 1, "post_processor has the field 'new'"),
    ("decoder", {"type": "Fuse"}, "decoder is {'type': 'Fuse'}"),
    ("model.type", "WordPiece", "is not a byte-pair model"),
    ("model.dropout", 0.1, "dropout is 0.1"),
    ("model.dropout", False, "dropout is False"),
    ("model.unk_token", 3, "unk_token is 3"),
    ("model.continuing_subword_prefix", "##", "continuing_subword_prefix is '##'"),
    ("model.end_of_word_suffix", "</w>", "end_of_word_suffix is '</w>'"),
    ("model.fuse_unk", "yes", "fuse_unk is 'yes'"),
    ("model.byte_fallback", True, "byte_fallback is True"),
    ("model.ignore_merges", 1, "ignore_merges is 1"),
    ("model.new", 1, "the model has the field 'new'"),
    ("model.vocab", MISSING, "the field 'vocab' is missing"),
    ("model.vocab.th", 10**30, "an integer beyond 64 bits"),
    ("model.vocab.th", True, "must be an object of tokens and their ids"),
    ("model.vocab.zz", N, "no merge makes the token 'zz'"),
    ("model.merges", ["t h s"], "merge 0 must be two tokens, not 't h s'"),
]


def written(path: Path) -> Any:
    TOKENIZER.to_huggingface(path)
    data = json.loads(path.read_text("utf-8"))
    data["post_processor"] = dict(BYTE_LEVEL)
    return data


def put(data: Any, where: str, value: Any) -> None:
    *keys, last = where.split(".")
    for key in keys:
        data = data[int(key)] if isinstance(data, list) else data[key]
    if value is MISSING:
        data.pop(last, None)
    else:
        data[last] = copy.deepcopy(value)


@pytest.mark.parametrize(("where", "value"), READ)
def test_settings_that_do_not_change_ids_are_read(where: str, value: Any, tmp_path: Path) -> None:
    data = written(tmp_path / "x.json")
    put(data, where, value)
    (tmp_path / "x.json").write_text(json.dumps(data))
    read = BPETokenizer.from_huggingface(tmp_path / "x.json")
    assert read.pattern == "gpt2"
    for text in TEXTS:
        allowed = {END_OF_TEXT}
        assert read.encode(text, allowed_special=allowed) == TOKENIZER.encode(text, allowed_special=allowed)


@pytest.mark.parametrize(("where", "value", "message"), REFUSED)
def test_other_settings_are_refused_by_name(where: str, value: Any, message: str, tmp_path: Path) -> None:
    data = written(tmp_path / "x.json")
    put(data, where, value)
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(TokenizerError, match=message.replace("|", r"\|")) as caught:
        BPETokenizer.from_huggingface(tmp_path / "x.json")
    assert str(caught.value).startswith(str(tmp_path / "x.json"))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_byte_level_alone_without_its_regex_is_no_split(tmp_path: Path) -> None:
    data = written(tmp_path / "x.json")
    put(data, "pre_tokenizer.use_regex", False)
    (tmp_path / "x.json").write_text(json.dumps(data))
    read = BPETokenizer.from_huggingface(tmp_path / "x.json")
    assert read.pattern == "none"
    read.to_huggingface(tmp_path / "y.json")
    assert json.loads((tmp_path / "y.json").read_text())["pre_tokenizer"] == AFTER_SPLIT
    assert BPETokenizer.from_huggingface(tmp_path / "y.json").pattern == "none"


def test_merges_may_be_lines_with_a_version(tmp_path: Path) -> None:
    data = written(tmp_path / "x.json")
    data["model"]["merges"] = ["#version: 0.2", *map(" ".join, data["model"]["merges"])]
    (tmp_path / "x.json").write_text(json.dumps(data))
    assert (BPETokenizer.from_huggingface(tmp_path / "x.json").merges == TOKENIZER.merges).all()


def test_ids_may_have_any_order(tmp_path: Path) -> None:
    ids = TOKENIZER.ids[::-1].copy()
    tokenizer = BPETokenizer(TOKENIZER.merges, TOKENIZER.special_tokens, ids=ids)
    tokenizer.to_huggingface(tmp_path / "x.json")
    assert (BPETokenizer.from_huggingface(tmp_path / "x.json").ids == ids).all()


@pytest.mark.tokenizer_peers
def test_settings_and_their_pairs_give_the_ids_of_hugging_face_or_a_refusal(tmp_path: Path) -> None:
    import tokenizers

    path = tmp_path / "x.json"
    data = written(path)
    changes = [
        *itertools.combinations(READ, 2),
        *((change,) for change in READ),
        *((change[:2],) for change in REFUSED),
    ]
    n_equal = 0
    for change in changes:
        changed = copy.deepcopy(data)
        for where, value in sorted(change, key=lambda one: len(one[0])):  # a whole record before its fields
            put(changed, where, value)
        path.write_text(json.dumps(changed))
        try:
            ours = BPETokenizer.from_huggingface(path)
        except TokenizerError:
            continue
        peer = tokenizers.Tokenizer.from_str(json.dumps(changed))
        for text in TEXTS:
            assert ours.encode(text, allowed_special="all") == peer.encode(text).ids, (change, text)
        n_equal += 1
    assert n_equal > 300
