"""Adapters of the survey: for each public project, how a layer is built and given to the checker."""

from survey_adapters import books, courses, frameworks, more, transformers
from survey_adapters.given import PROJECTS

__all__ = ["PROJECTS", "books", "courses", "frameworks", "more", "transformers"]
