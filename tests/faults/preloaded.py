"""What every consumer that is killed would load anew: the nursery loads it once, and they are forked from there."""

from __future__ import annotations

from usageaudit.pipeline.policies import Policies

POLICIES = Policies(["azure-openai-code-of-conduct"])
