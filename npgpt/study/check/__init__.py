"""Is a gradient right? Witnesses that share no code with backward, laws, and a diagnosis."""
