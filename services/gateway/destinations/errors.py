"""Why a destination did not take a result."""


class Undelivered(Exception):  # noqa: N818 - says what is wrong, like RejectedScan
    """A destination was away, refused, or did not answer in time: Pub/Sub delivers the answer again."""
