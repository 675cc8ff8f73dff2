# SPDX-License-Identifier: Apache-2.0
"""The three ways in which a Data-Juicer run goes wrong for a reason that its user can act on.

Everything else that a function of this package raises is a defect, of ours or of the library, and passes
through as it is.
"""


class DataJuicerError(Exception):
    """A problem told as a sentence. `field` is its address inside the configuration, such as
    `process[2].text_length_filter`; `problem` the sentence without it.
    """

    def __init__(self, problem: str, field: str = "") -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class ConfigurationError(DataJuicerError):
    """The configuration can't run, whatever the data: an unknown key or operator, a wrong argument."""


class DatasetError(DataJuicerError):
    """The data set can't be read: it is missing, empty or malformed."""

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.problem, self.field)  # it comes back whole from another process


class OperatorError(DataJuicerError):
    """An operator failed on rows. `operator` is its name, `index` its place in `process` (-1 when Ray doesn't
    tell).
    """

    def __init__(self, operator: str, index: int, cause: BaseException) -> None:
        where = f"process[{index}].{operator}" if index >= 0 else f"process.{operator}"
        super().__init__(f"the operator failed on rows: {root_message(cause)}", where)
        self.operator = operator
        self.index = index


def root_message(error: BaseException) -> str:
    """What an operator really raised, in one line; worker pools and Ray wrap it."""
    if any(cls.__module__ == "ray.exceptions" for cls in type(error).__mro__):
        # Ray passes tracebacks on as text, the first of them the operator's; its last line is the error
        first = str(error).split("\n\nThe above exception was the direct cause", 1)[0]
        return first.strip().rpartition("\n")[2]
    while error.__cause__ is not None and "RemoteTraceback" not in type(error.__cause__).__name__:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text or 'no message'}"
