"""One suite of behaviours, run on every subject named in support/subjects.py."""
