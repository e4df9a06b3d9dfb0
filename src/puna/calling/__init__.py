"""What an answer may call, or has to (calls.py), and the grammar that holds it to that (answers.py)."""
