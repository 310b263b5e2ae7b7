"""The learner's side: questions, checks, hints, progress."""
