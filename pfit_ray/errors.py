"""What goes wrong: a mistake of the user, a run that cannot go on, a row that cannot be processed."""


class UserError(Exception):
    """A mistake that stops the whole run before or during work.

    The message is one clear sentence: what is wrong, which item or field, what to do.
    """


class RunFailedError(Exception):
    """A run cannot go on; the message says why and what to do, in one sentence."""


class RowError(Exception):
    """One image cannot be processed; the run goes on and records the reason.

    Args:
        reason: a code from `pfit_ray.constants.REASONS`.
        message: one sentence with the details.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


def last_line(error: BaseException) -> str:
    """The last line of an error's text: Ray puts what happened below its tracebacks."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
