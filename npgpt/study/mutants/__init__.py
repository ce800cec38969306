"""Mistakes that people make, each planted in npgpt's own code to test the checks."""

from npgpt.study.mutants import of_borders, of_compiled, of_layers, of_models, of_positions, of_training
from npgpt.study.mutants.at_random import generated
from npgpt.study.mutants.plant import Mutant, planted
from npgpt.study.mutants.verdict import Verdict, scores, try_mutant

MUTANTS = [
    *of_layers.MUTANTS,
    *of_positions.MUTANTS,
    *of_models.MUTANTS,
    *of_training.MUTANTS,
    *of_compiled.MUTANTS,
    *of_borders.MUTANTS,
]

__all__ = ["MUTANTS", "Mutant", "Verdict", "generated", "planted", "scores", "try_mutant"]
