"""Exercises for the parts of a GPT, judged by the checker."""

from npgpt.study.exercises.catalogue import EXERCISES, check_file, draw_broken, find, mutants_of
from npgpt.study.exercises.function_exercise import FunctionExercise
from npgpt.study.exercises.layer_exercise import LayerExercise

__all__ = ["EXERCISES", "FunctionExercise", "LayerExercise", "check_file", "draw_broken", "find", "mutants_of"]
