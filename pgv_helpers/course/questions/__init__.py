"""One file for each exercise: its questions, each with its check."""
