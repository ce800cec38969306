"""Exercises along the road, judged by the checker."""
