"""npgpt: a GPT in NumPy with every gradient derived and coded by hand."""

__version__ = "0.1.0"
