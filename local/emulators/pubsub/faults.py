"""What Pub/Sub may do and seldom does: deliver twice, late and out of order, and fewer messages than were asked for.

https://cloud.google.com/pubsub/docs/subscription-overview promises delivery at least once, in no order, and a pull of
as few messages as the service likes. A stand-in that never does so hides what depends on it.
"""

from dataclasses import dataclass, field
from random import Random  # whether a fault happens is no secret

_LATE_S = (0.2, 5.0)


@dataclass(slots=True)
class Faults:
    """How often; the default is never. The same seed draws the same."""

    duplicate: float = 0.0
    """Share of acknowledged messages that are delivered once more."""
    late: float = 0.0
    """Share of deliveries that are put off, so that later messages overtake them."""
    thin_pulls: bool = False
    """Whether a pull is answered with any number of messages from one to what was asked for."""
    random: Random = field(default_factory=Random)

    def forgets_acknowledgement(self) -> bool:
        """Return whether an acknowledgement is lost this time."""
        return self.duplicate > 0 and self.random.random() < self.duplicate

    def pause(self) -> float:
        """Return for how many seconds a delivery is put off; mostly 0."""
        return self.random.uniform(*_LATE_S) if self.late and self.random.random() < self.late else 0.0

    def pulled(self, most: int) -> int:
        """Return how many messages a pull that asks for `most` gets, from 1."""
        return self.random.randint(1, most) if self.thin_pulls else most
