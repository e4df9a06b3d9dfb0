"""A model in a process of its own: what it can be asked, how that travels, and both ends of the line."""
