"""Settings of the whole suite: the Hypothesis profiles."""

import os

from hypothesis import HealthCheck, settings

# `ci` finds the same examples every time; `dev` looks a little further with each run.
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "dev")
