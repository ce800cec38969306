"""The version of this npgpt."""

__version__ = "0.1.0"
