"""The two kinds of failure: a mistake of the user, and a row that cannot be processed."""


class UserError(Exception):
    """A mistake that stops the whole run before or during work.

    The message is one clear sentence: what is wrong, which item or field, what to do.
    """


class RowError(Exception):
    """One image cannot be processed; the run goes on and records the reason.

    Args:
        reason: a code from `pfit_ray.schema.REASONS`.
        message: one sentence with the details.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message
