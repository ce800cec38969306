"""The compiled loop of word2vec."""
