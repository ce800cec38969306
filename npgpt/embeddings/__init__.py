"""Vectors of words and documents: word2vec, analogies, search."""
