"""Exercises for the parts of a GPT: a file with the forward pass and an empty backward, judged by the checker.

An exercise on a layer is the source of the layer without its backward pass. Its hints are a first thought and the steps
of the derivation, and its solution is npgpt's own source. Three exercises are on functions (``functions.py``).
"""

import random
import re
import types
from pathlib import Path

import npgpt.layers as layers
from npgpt.errors import ConfigError, DataError, brief, did_you_mean
from npgpt.study.exercises.function_exercise import FunctionExercise
from npgpt.study.exercises.functions import FUNCTIONS
from npgpt.study.exercises.layer_exercise import MARK, LayerExercise
from npgpt.study.exercises.own_lines import told_in_one_line
from npgpt.study.mutants import MUTANTS, Mutant
from npgpt.support.files import read_text

Exercise = LayerExercise | FunctionExercise

_LAYERS = [
    LayerExercise(
        "linear",
        "An affine map: what are dW, db and dx?",
        layers.Linear,
        ("Linear",),
        """A weight is used at every position of every example, so its gradient is a sum over
all of them. rows(x) and rows(dy) are matrices with a row for each position:
which product of the two has the shape of W? And which one of dy and W that of x?""",
    ),
    LayerExercise(
        "softmax",
        "Every score is in every weight's denominator. What is ds?",
        layers.Softmax,
        ("Softmax",),
        """If one score s_j grows, its weight w_j grows, and every other weight of the row
shrinks. So ds_j is a sum over all weights of the row: Σ_k dw_k ∂w_k/∂s_j.
Derive ∂w_k/∂s_j for k = j and for k ≠ j.""",
    ),
    LayerExercise(
        "cross-entropy",
        "The loss is one number. What is its gradient for each logit?",
        layers.CrossEntropy,
        ("CrossEntropy", "CrossEntropy-ignore"),
        """Go back in two steps. The loss reads one log-probability of each row, that of the
target. So the gradient of the log-probabilities has one number in each row, and
none where the target is IGNORE_INDEX. Then: a logit is in its own log-probability,
and through the log-sum in those of the whole row.""",
    ),
    LayerExercise(
        "embedding",
        "A row is copied to each use of its id. What is dW?",
        layers.Embedding,
        ("Embedding",),
        """A row that is looked up twice gets a gradient from both uses; they must add up.
What does dW[ids] += dy do if an id occurs twice?""",
    ),
    LayerExercise(
        "positions",
        "One table is added to every example. What is dP?",
        layers.LearnedPositions,
        ("LearnedPositions",),
        """Row t of the table is used once in every example of the batch. Only the first T
rows are used: self.weight.grad may have more.""",
    ),
    LayerExercise(
        "layer-norm",
        "x reaches y in three ways. What is dx?",
        layers.LayerNorm,
        ("LayerNorm",),
        """Begin at the end: what are the gradients of the gain, the bias and x̂? Then find the
three ways from x to x̂ = (x − μ)·r: directly, through the mean μ, and through r.
The gain belongs to dx̂, before any mean is taken.""",
    ),
    LayerExercise(
        "gelu",
        "x occurs as a factor and inside tanh. What is dx?",
        layers.TanhGELU,
        ("TanhGELU",),
        """y = x·(1 + t)/2 is a product, and t depends on x too. So dx has two terms. Begin
with dt, then go through tanh to the polynomial inside.""",
    ),
    LayerExercise(
        "one-head",
        "A head mixes values. What are dw and dv?",
        layers.Mixing,
        ("Mixing",),
        """In each head m = w·v is a product of two matrices: (T, T) times (T, D). Which products
of dm with one of them have the shapes of w and v? swapaxes(-1, -2) transposes the
matrices; .T would reverse all four axes.""",
    ),
    LayerExercise(
        "causal",
        "Causal scores: future keys are masked. What are dq and dk?",
        layers.Scores,
        ("Scores",),
        """A masked score is −∞ whatever q and k are. What must become of its ds? visible(T) is
True where a score counts. The rest is a product of two matrices, divided by √D.""",
    ),
    LayerExercise(
        "multi-head",
        "Attention from its sub-layers. What is dx?",
        layers.Attention,
        ("Attention", "Attention-dropout"),
        """Walk through forward from its last line to its first. Each line has one in backward:
a sub-layer's backward takes the gradient of its output, and returns that of its
input. Where forward cuts into heads, backward puts together, and the reverse.""",
    ),
    LayerExercise(
        "residual-block",
        "Two branches add into the stream. What is dx?",
        layers.Block,
        ("Block",),
        """In a sum, each summand gets the whole gradient. So the gradient of the output goes
two ways: along the stream unchanged, and back through a branch. Where a branch
began, both are added.""",
    ),
    LayerExercise(
        "squared-error",
        "The loss of predicted numbers. What are dy and dt?",
        layers.MeanSquaredError,
        ("MeanSquaredError",),
        """Each number is in one term of the sum. What is the slope of (y − t)² in y, and in t?
The mean divides by all numbers, not by the examples.""",
    ),
    LayerExercise(
        "lora",
        "A frozen map and a small update. What are dA, dB and dx?",
        layers.LoRA,
        ("LoRA",),
        """W is a constant, so it has no gradient; x still goes through it. Walk back through
h = x·A and σ·h·B as through two Linear layers. Where does σ belong?""",
    ),
    LayerExercise(
        "tied-head",
        "One table embeds and predicts. What are dW and dx?",
        layers.VocabularyHead,
        ("VocabularyHead", "GPT-tied"),
        """This is linear without a bias, but the table is (V, C): a row for each logit. The
embedding adds to the same weight.grad, before or after.""",
    ),
]
_WINDOWS, _ADAMW, _MERGE = FUNCTIONS
_ROAD: list[Exercise] = [_WINDOWS, *_LAYERS, _ADAMW, _MERGE]
EXERCISES: dict[str, Exercise] = {exercise.name: exercise for exercise in _ROAD}


def find(name: str) -> Exercise:
    """Return the exercise of this name.

    Raises
        ConfigError if there is none.
    """
    if name not in EXERCISES:
        raise ConfigError(f"there is no exercise {name!r}; {did_you_mean(name, EXERCISES)}")
    return EXERCISES[name]


def mutants_of(exercise: Exercise) -> list[Mutant]:
    """Return the planted mistakes in this layer's backward pass that its own cases can find."""
    if isinstance(exercise, FunctionExercise):
        return []
    target = f"{exercise.kind.__module__}:{exercise.kind.__name__}.backward"
    return [mutant for mutant in MUTANTS if mutant.target == target and mutant.case in exercise.cases]


def draw_broken(name: str | None, seed: int) -> tuple[LayerExercise, Mutant]:
    """Draw a layer and a mistake in it, by a seed."""
    rng = random.Random(seed)
    candidates = [find(name)] if name else [exercise for exercise in EXERCISES.values() if mutants_of(exercise)]
    exercise = rng.choice(candidates)
    mutants = mutants_of(exercise)
    if not mutants or not isinstance(exercise, LayerExercise):
        raise ConfigError(f"there is no broken file for {exercise.name}; choose a layer, for example linear")
    return exercise, rng.choice(mutants)


def check_file(path: Path) -> tuple[Exercise, str]:
    """Run a user's file and judge it. Return the exercise and the first mistake; empty if there is none.

    Raises
        DataError if the file is not an exercise, or does not run.
    """
    source = read_text(path)
    found = re.search(rf"^{re.escape(MARK)}([\w-]+)", source, re.MULTILINE)
    if not found:
        raise DataError(f"{path} lacks the line {MARK + 'NAME'!r}; `npgpt exercise start NAME` writes such a file")
    try:
        exercise = find(found[1][:60])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    module = types.ModuleType("exercise")
    file = str(path)
    try:
        exec(compile(source, file, "exec"), vars(module))
    except Exception as error:
        raise DataError(f"{path} does not run: {brief(told_in_one_line(error, file, source))}") from error
    return exercise, exercise.judge(module, file, source)
