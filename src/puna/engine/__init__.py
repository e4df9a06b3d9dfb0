"""The engine: sequences of token ids through a compiled program. It knows no text, no templates and no HTTP."""
