"""How fast: models, kernels and the machine's limits, measured side by side. It computes nothing that anyone uses."""
