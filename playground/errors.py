"""The errors a person may see: what was wanted, what was found, what to do.

Lower floors raise them, the top shows `str(error)` as it is. Cancelling is not an error.
"""

from __future__ import annotations


class PlaygroundError(Exception):
    """One or two plain sentences: what is wrong, then what to do about it."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".strip()


class BadModelFile(PlaygroundError):
    """The bytes are not a GGUF model that can be used."""


class ModelNotFound(PlaygroundError):
    """No file answers to that name or path."""


class DoesNotFit(PlaygroundError):
    """The plan needs more memory than this computer can give."""


class ModelStopped(PlaygroundError):
    """The process that ran the model ended; the next request starts a new one."""


class RequestRefused(PlaygroundError):
    """A request outside the limits: too long, too many, or not allowed here.

    setting: the field of Settings that decided so; "" where no setting would allow it.
    """

    def __init__(self, problem: str, remedy: str = "", *, setting: str = "") -> None:
        super().__init__(problem, remedy)
        self.setting = setting


class TemplateRefused(PlaygroundError):
    """A chat template that fails, runs too long, or reaches for what it must not touch."""


class RemoteProblem(PlaygroundError):
    """An OpenAI-compatible server could not give what was asked of it."""


class HubProblem(PlaygroundError):
    """The Hugging Face Hub could not give what was asked of it."""
