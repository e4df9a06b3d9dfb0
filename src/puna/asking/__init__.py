"""What is asked of a model that runs, a file each: prompts, answers and how they are read, decisions, vectors."""
