"""Mistakes that people make, each planted in our own code: whoever checks the checks runs them all."""

from npgpt.study.mutants import of_compiled, of_layers, of_models, of_positions, of_training
from npgpt.study.mutants.plant import Mutant, planted

MUTANTS = [
    *of_layers.MUTANTS,
    *of_positions.MUTANTS,
    *of_models.MUTANTS,
    *of_training.MUTANTS,
    *of_compiled.MUTANTS,
]

__all__ = ["MUTANTS", "Mutant", "planted"]
