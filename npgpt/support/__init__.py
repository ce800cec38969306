"""Support code: files, the terminal, memory, pictures, environment variables."""
