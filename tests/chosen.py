"""Which backends the tests that hold for any backend are run on: $PUNA_TEST_BACKENDS, else those of the core install.

PUNA_TEST_BACKENDS=torch python -m pytest tests/conformance tests/arch tests/golden
"""

import os

ASKED = tuple(os.environ.get("PUNA_TEST_BACKENDS", "").split())
BACKENDS = ASKED or ("numpy", "cpu")
"""Those that compute, by name."""
