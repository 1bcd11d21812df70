"""Whether the candidate is worse, asked after every call.

Who gets the candidate is drawn by a hash, with a known chance: the share. So under the hypothesis that the candidate is
no worse than what serves, each unit (a user or a session) that ever has a bad call is one of the candidate's with just
that chance, whatever else happens: outages that hit both, busy users, quiet hours. If the candidate makes bad calls r
times as likely, the chance is r s / (r s + 1 - s). The likelihood ratio of the two, averaged over several r, is a
martingale under the hypothesis and starts at 1; so it ever reaches 1 / alpha with a probability of at most alpha
(Ville, 1939), and looking after every call does not make false aborts likelier. Good calls say nothing.
"""

import math
from dataclasses import dataclass, replace

RATIOS = (3.0, 20.0, 50.0)
"""How much worse a candidate may be that is looked for. One that is less than about 1.8 times as bad is never found."""
PAIRED_SHARE = 0.5
"""Of pairs, both answers to one request, of which one is bad: the chance that it is the candidate's."""


@dataclass(frozen=True, slots=True)
class BadUnits:
    """How many units had a bad call, with each version."""

    baseline: int = 0
    candidate: int = 0

    def plus(self, *, candidate: bool) -> "BadUnits":
        if candidate:
            return replace(self, candidate=self.candidate + 1)
        return replace(self, baseline=self.baseline + 1)


def log_evidence(bad: BadUnits, share: float) -> float:
    """The logarithm of the ratio. 0 where nothing can be told, since everybody gets the same version."""
    if not 0.0 < share < 1.0:
        return 0.0
    logs = []
    for ratio in RATIOS:
        weight = ratio * share + 1.0 - share
        logs.append(bad.candidate * math.log(ratio / weight) - bad.baseline * math.log(weight))
    highest = max(logs)
    return highest + math.log(sum(math.exp(one - highest) for one in logs) / len(logs))


def is_worse(bad: BadUnits, share: float, alpha: float) -> bool:
    return log_evidence(bad, share) >= -math.log(alpha)
