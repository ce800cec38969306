"""What stands beside the model: files, the terminal, memory, pictures."""
