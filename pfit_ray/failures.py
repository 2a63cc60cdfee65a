"""Why a run ends early although nobody made a mistake in its config."""


class RunFailedError(Exception):
    """A run cannot go on; the message says why and what to do, in one sentence."""


def last_line(error: BaseException) -> str:
    """The last line of an error's text: Ray puts what happened below its tracebacks."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
