"""Vectors of words and documents: word2vec, analogies, maps, search. The import does not start Numba."""

from npgpt.embeddings.documents import BagOfWords, Encoder, gpt_vectors, mean, sif, tf_idf
from npgpt.embeddings.evaluate import evaluate_analogies, evaluate_pairs, read_analogies, read_pairs, spearman
from npgpt.embeddings.formats import installed_glove, load_vectors, save_vectors
from npgpt.embeddings.index import DocumentIndex, Hit
from npgpt.embeddings.lookup import OneHotEmbedding, one_hot
from npgpt.embeddings.maps import draw_maps, parallelogram, project, text_map
from npgpt.embeddings.negative_sampling import NegativeSampling
from npgpt.embeddings.pv_dbow import DocumentWords, PVConfig, PVModel, train_pv_dbow
from npgpt.embeddings.run_vectors import RunEncoder, token_names, token_vectors
from npgpt.embeddings.search import make_index, open_index
from npgpt.embeddings.vectors import WordVectors, cosine, unit
from npgpt.embeddings.word2vec import Word2VecConfig, to_sentences, train_word2vec

__all__ = [
    "BagOfWords", "DocumentIndex", "DocumentWords", "Encoder", "Hit", "NegativeSampling", "OneHotEmbedding", "PVConfig",
    "PVModel", "RunEncoder", "Word2VecConfig", "WordVectors", "cosine", "draw_maps", "evaluate_analogies",
    "evaluate_pairs", "gpt_vectors", "installed_glove", "load_vectors", "make_index", "mean", "one_hot", "open_index",
    "parallelogram", "project", "read_analogies", "read_pairs", "save_vectors", "sif", "spearman", "text_map", "tf_idf",
    "to_sentences", "token_names", "token_vectors", "train_pv_dbow", "train_word2vec", "unit"
]  # fmt: skip
