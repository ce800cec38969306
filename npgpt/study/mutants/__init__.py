"""Mistakes that people make, each planted in npgpt's own code to test the checks."""

from npgpt.study.mutants import of_borders, of_compiled, of_layers, of_models, of_positions, of_training
from npgpt.study.mutants.at_random import generated
from npgpt.study.mutants.plant import Mutant, planted
from npgpt.study.mutants.verdict import Verdict, scores, try_mutant

_TABLES = of_layers, of_positions, of_models, of_training, of_compiled, of_borders
MUTANTS = [mutant for table in _TABLES for mutant in table.MUTANTS]

__all__ = ["MUTANTS", "Mutant", "Verdict", "generated", "planted", "scores", "try_mutant"]
