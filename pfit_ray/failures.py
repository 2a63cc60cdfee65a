"""Why a run ends early although nobody made a mistake in its config."""


class RunFailedError(Exception):
    """A run cannot go on; the message says why and what to do, in one sentence."""
