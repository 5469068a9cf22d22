"""Why a destination did not take a result."""


class Undelivered(Exception):
    """A destination was away, refused, or did not answer in time: Pub/Sub delivers the answer again."""
