"""What a person's layer may want, guessed from the names of arguments: sizes, options, arrays.

A guess is a piece of Python with ``np`` and ``rng``, such as ``5`` or ``rng.normal(size=(3, 5))``, so that it can be
run, shown and written into a test. The sizes differ from each other, so that a swapped axis is an error, and no batch
has fewer than three examples: a batch norm over two has no gradient that could be wrong.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

Letters = dict[str, int]

# B batch, T time, C channels, O outputs, H hidden size, V vocabulary, L longest text, M x N image, K kernel, G gates
LETTERS = {"B": 3, "T": 4, "C": 5, "O": 7, "H": 6, "V": 11, "L": 9, "M": 6, "N": 8, "K": 3, "2": 2, "1": 1}
IN_PARTS = LETTERS | {"C": 12, "O": 10, "H": 8}  # for heads and groups: 12 channels have 2 heads of size 6
PARTS = r"(n|num|nb)?_?(attention|attn|kv)?_?(heads?|groups?)|nhead"
SIZES = {
    "2": rf"{PARTS}|(n|num)_?(layers?|blocks)|depth|pool.*",
    "H": r"d_k|d_v|head_(size|dim)|.*hidd?en.*|hid.*|d?_?ff.*|.*inner.*|d_?mlp|nh|h",
    "V": r".*vocab.*|(n|num)_?(embeddings|words|tokens)|v",
    "L": r"length|max_?.*len.*|context.*|block_size|seq.*|n_ctx|.*pos(itions)?|max_pos.*|(n|num)_steps|t",
    "K": r"(kernel|filter|window)_?(size|h|w|height|width)?|k|f|ksize|fh|fw",
    "1": r"strides?|dilation|pad(ding)?|s",
    "O": r".*out(put|puts)?(_?(features?|channels?|size|dim|d|c|n))?|n?_?out.*|(n|num)?_?(classes|units|neurons|nodes|"
    r"filters|kernels)|units|neurons|d_out|fan_?out|n_?y|m|o|to|.*next.*|n_l|size_out",
    "C": r".*(dim|embd|embed|model|width|features?|channels?|shape|size|input|inputs|in)|n_?x|in_.*|input.*|fan_?in|"
    r"n|d|c|i|previous|.*prev.*|emb.*|n_in.*|num_in.*",
}
OPTIONS = {
    "{'mode': 'train'}": r"bn_param",
    "{}": r"[lg]n_param",
    "{'mode': 'train', 'p': 0.5, 'seed': 1}": r"dropout_param",
    "{'stride': 1, 'pad': 1}": r"conv_param",
    "{'stride': 2, 'pool_height': 2, 'pool_width': 2}": r"pool_param",
    "{'stride': 1, 'pad': 1, 'f': 2}": r"hparam.*",
    "1e-5": r"eps|epsilon|.*_eps(ilon)?",
    "0.9": r"momentum|decay|beta\d?|running_.*",
    "0.7": r"keep.*",
    "0.3": r"p|p_drop|drop.*|rate|prob.*|ratio",
    "0.1": r"lr|learning_rate|eta|alpha|.*slope|reg|lambd?a?|l2.*|weight_decay",
    "0.5": r"temperature|tau|scale|factor|std|sigma|.*_scale|init_.*|delta|margin",
    "'relu'": r"activation.*|act|nonlinearity|act_fn",
    "0": r"seed|random_state",
    "-1": r"axis",
    "np.random.default_rng(0)": r"rng|random|generator",
    "np.float64": r"dtype",
    "True": r"(use|with|has|is|return)_.*|bias|causal|train(ing)?|affine|.*_bias|batch_first|stateful",
    "'train'": r"mode",
    "'layer'": r"name",
}
ROLES = {  # of arguments that are arrays
    "ids": r".*ids|.*idx|(token|word|index|indice)e?s?|.*indices|words|input_tokens",
    "target": r"targets?|labels?|.*_true|true.*|truth|gt|y_?labels?",
    "mask": r".*mask",
    "wh": r"w_?h+|w_?hh|u|w_?rec|.*recurrent.*|w_?aa",
    "wx": r"w_?x|w_?x?h|w_?ih|w_?ax",
    "square": r"w_?[qkvo]|w_?(query|key|value|out|proj)",
    "w1": r"(w|weights?)_?1",
    "w2": r"(w|weights?)_?2",
    "b1": r"(b|bias(es)?)_?1",
    "b2": r"(b|bias(es)?)_?2",
    "w": r"w|weights?|kernel|filters?|theta|embedding|table|weight_matrix",
    "h": r"h|h0|h_?prev|prev_?h|h_.*|hidden.*|state|prev_state|c_prev|prev_?c|c0|c|cell.*|a_prev_step",
    "g": r"gamma|gain|beta|shift|scale|g",
    "b": r"b|bias(es)?",
}
BARE_TARGETS = re.compile(r"y|t")
OF_LOSSES = re.compile(r"loss|entropy|mse|mae|bce|nll|criterion|cost|hinge|huber|xent|squared_?error|kl_?div", re.I)
OF_EMBEDDINGS = re.compile(r"embed|lookup|one_?hot", re.I)

TABLES = re.compile(
    r"(.*\.)?_?(.*mask|tril|pe|.*pos_?enc.*|sin.*|cos.*|.*freqs?(_.*)?|(running|moving)_.*)", re.I
)  # nobody trains them

TWO = {"w1": "CH", "b1": "H", "w2": "HO", "b2": "O"}  # two layers in one function
# Role -> letters of its shape. The first ones are the likeliest.
SCHEMES: tuple[dict[str, str], ...] = (
    {"x": "BC", "w": "CO", "b": "O", "g": "C", "square": "CC", "h": "BH", "mask": "BC"} | TWO,
    {"x": "BTC", "w": "CO", "b": "O", "g": "C", "square": "CC", "h": "BH", "mask": "TT"} | TWO,
    {"x": "BLC", "w": "CO", "b": "O", "g": "C", "square": "CC", "h": "BH", "mask": "LL"},
    {"x": "BC", "wx": "CH", "wh": "HH", "b": "H", "h": "BH"},
    {"x": "BTC", "wx": "CH", "wh": "HH", "b": "H", "h": "BH"},
    {"x": "BC", "wx": "C4", "wh": "H4", "b": "4", "h": "BH"},
    {"x": "BTC", "wx": "C4", "wh": "H4", "b": "4", "h": "BH"},
    {"x": "BC", "wx": "C3", "wh": "H3", "b": "3", "h": "BH"},
    {"x": "BTC", "wx": "C3", "wh": "H3", "b": "3", "h": "BH"},
    {"x": "BC", "w": "OC", "b": "O", "h": "BH"},
    {"x": "BC", "w": "CO", "b": "1O", "g": "1C"},
    {"x": "CB", "w": "OC", "b": "O1", "g": "C1", "wx": "HC", "wh": "HH", "h": "HB", "mask": "CB"},
    {"x": "CB", "w1": "HC", "b1": "H1", "w2": "OH", "b2": "O1"},
    {"x": "BCMN", "w": "OCKK", "b": "O", "g": "C", "mask": "MN"},
    {"x": "BCMN", "w": "OCKK", "b": "1O11", "g": "1C11"},
    {"x": "BMNC", "w": "KKCO", "b": "111O", "g": "C"},
    {"x": "BCN", "w": "OCK", "b": "O", "g": "1C1"},
)
UNBATCHED: tuple[dict[str, str], ...] = (  # a sum over the batch that is missing does not show in these
    {"x": "C", "w": "CO", "b": "O", "g": "C", "h": "H", "wx": "CH", "wh": "HH"},
    {"x": "C", "w": "OC", "b": "O", "h": "H", "wx": "HC", "wh": "HH"},
    {"x": "C1", "w": "OC", "b": "O1", "h": "H1", "wx": "HC", "wh": "HH"},
    {"x": "CMN", "w": "OCKK", "b": "O", "g": "C"},
    {"x": "MN", "w": "KK", "b": "1", "g": "1"},
    {"x": ""},
)


def option(name: str, annotation: Any, letters: Letters) -> str | None:
    """Return a guess for an argument that is a size or an option; None if its name says nothing."""
    plain = name.strip("_").lower()
    for text, pattern in OPTIONS.items():
        if re.fullmatch(pattern, plain):
            return text
    for letter, pattern in SIZES.items():
        if re.fullmatch(pattern, plain):
            return str(letters[letter])
    kinds = {int: str(letters["C"]), float: "0.5", bool: "True"}
    return kinds.get(annotation) or {kind.__name__: text for kind, text in kinds.items()}.get(annotation)


def number(name: str, annotation: Any, letters: Letters) -> str | None:
    """Return a guess for an argument of forward if it is a number or an option, not an array."""
    plain = name.strip("_").lower()
    sizes = (SIZES["2"], SIZES["K"], SIZES["1"]) if len(plain) > 1 else ()  # k may be a key
    is_one = annotation in (int, float, bool, "int", "float", "bool") or any(
        re.fullmatch(pattern, plain) for pattern in (*OPTIONS.values(), *sizes)
    )
    return option(name, annotation, letters) if is_one else None


def role(name: str, is_loss: bool) -> str:
    """Return the role of an array; ``x`` if its name says nothing."""
    plain = name.strip("_").lower()
    if is_loss and BARE_TARGETS.fullmatch(plain):
        return "target"
    return next((role for role, pattern in ROLES.items() if re.fullmatch(pattern, plain)), "x")


def is_size(name: str) -> bool:
    """Return whether the number that a person gives as a default is a size, which may be too large for a check."""
    return any(re.fullmatch(pattern, name.strip("_").lower()) for key, pattern in SIZES.items() if key not in "1K")


def is_part(name: str) -> bool:
    """Return whether a name is that of a number of parts, such as heads, into which the channels must be divisible."""
    return bool(re.fullmatch(PARTS, name.strip("_").lower()))


def shape(letters: str, sizes: Letters) -> tuple[int, ...]:
    gates = {"3": 3 * sizes["H"], "4": 4 * sizes["H"]}
    return tuple(gates.get(letter) or sizes[letter] for letter in letters)


def arrays(
    roles: Mapping[str, str], scheme: Mapping[str, str], sizes: Letters, is_loss: bool, of_ids: bool
) -> Iterator[dict[str, str]]:
    """Yield guesses for arguments that are arrays: argument -> a piece of Python.

    Args
        roles: argument -> its role.
        of_ids: whether an argument that says nothing may be an array of ids.
    """
    x = shape(scheme["x"], sizes)
    normal, positive = f"rng.normal(size={x})", f"rng.uniform(0.5, 1.5, size={x})"
    probabilities = f"rng.dirichlet(np.ones({x[-1]}), size={x[:-1]})" if x[1:] and x[-1] > 1 else None
    ids = f"rng.integers(0, {sizes['V']}, size={(sizes['B'], sizes['T'])})"
    wanted = set(roles.values()) - {"x", "target", "ids"}
    if not wanted <= scheme.keys():
        return
    given = {key: f"rng.normal(size={shape(scheme[kind], sizes)})" for key, kind in roles.items() if kind in wanted}
    given |= {
        key: f"np.tri({', '.join(map(str, shape(scheme['mask'], sizes)))}, dtype=bool)"
        for key, kind in roles.items()
        if kind == "mask"
    }
    given |= {key: ids for key, kind in roles.items() if kind == "ids"}
    free = [key for key, kind in roles.items() if kind == "x"]
    targets = [key for key, kind in roles.items() if kind == "target"]
    kinds = [probabilities or f"rng.uniform(0.1, 0.9, size={x})", normal] if is_loss else [normal, positive]
    if of_ids or "ids" in roles.values():
        given |= {key: f"rng.normal(size={(sizes['V'], sizes['C'])})" for key, kind in roles.items() if kind == "w"}
    if of_ids:
        kinds = [ids]
    aims = [""]
    if targets:
        classes = f"rng.integers(0, {x[-1] if x else 1}, size={x[:-1]})"
        one_hot = (
            f"np.eye({x[-1]})[{classes}]" if x[1:] and x[-1] > 1 else f"rng.integers(0, 2, size={x}).astype(float)"
        )
        aims = [classes, one_hot]
    for kind in kinds:
        for aim in aims:
            yield {key: kind if key in free else aim if key in targets else given[key] for key in roles}


def parameters(function: Any) -> list[inspect.Parameter]:
    """Return the arguments of a function, without those like ``*layers``; none if it cannot tell."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p for p in _signature(function) if p.kind in kinds]


def any_number(function: Any) -> list[str]:
    """Return the names of arguments like ``*layers``."""
    return [f"*{p.name}" for p in _signature(function) if p.kind is p.VAR_POSITIONAL]


def _signature(function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
