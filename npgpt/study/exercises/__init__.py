"""Exercises for the parts of a GPT, judged by the checker."""

from npgpt.study.exercises.catalogue import EXERCISES, LayerExercise, check_file, draw_broken, find, mutants_of
from npgpt.study.exercises.functions import FunctionExercise

__all__ = ["EXERCISES", "FunctionExercise", "LayerExercise", "check_file", "draw_broken", "find", "mutants_of"]
