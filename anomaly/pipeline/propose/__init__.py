"""A spec proposed by a look at the data: what `anomaly init`, `anomaly fit PATH` and `anomaly.fit` begin with.

`look` says what is there, `propose` makes a spec of it, `to_toml` writes it with comments. Nothing here needs PyTorch.
"""

from anomaly.pipeline.propose.budget import budget_words, read_budget
from anomaly.pipeline.propose.look import Look, look
from anomaly.pipeline.propose.proposal import Answers, Proposal, propose
from anomaly.pipeline.propose.toml import made_for, to_toml

__all__ = ["Answers", "Look", "Proposal", "budget_words", "look", "made_for", "propose", "read_budget", "to_toml"]
