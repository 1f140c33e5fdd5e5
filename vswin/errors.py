"""The base of errors that explain themselves."""


class ExplainedError(Exception):
    """An error whose message says what is wrong and what to do about it: a traceback would only hide it."""


class UsageError(ExplainedError):
    """A name or a combination of arguments that means nothing; the message says what would."""
