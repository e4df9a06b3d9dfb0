"""LoRA adapters: PEFT's and GGUF's, against the base they are for; converted, merged, or added to a model."""
