"""The errors that people see: one tree, each with the problem and what to do about it.

Lower layers raise them; the page, the command line and the API show `str(error)`. Cancelling is not an error.
"""

from __future__ import annotations

from playground.text_format import replace_surrogates


class PlaygroundError(Exception):
    """One or two plain sentences: what is wrong, then what to do about it."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = replace_surrogates(problem)  # of file names that are not UTF-8
        self.remedy = replace_surrogates(remedy)
        super().__init__(self.problem, self.remedy)

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".strip()


class BadModelFile(PlaygroundError):
    """The bytes are not a GGUF model that can be used."""


class ModelNotFound(PlaygroundError):
    """No file has that name or path."""


class DoesNotFit(PlaygroundError):
    """A model needs more memory than this computer has for models.

    ran_out: the memory ran out while it was loaded, so another try would do no better. Else its plan says so before.
    """

    def __init__(self, problem: str, remedy: str = "", *, ran_out: bool = False) -> None:
        super().__init__(problem, remedy)
        self.ran_out = ran_out


class ModelStopped(PlaygroundError):
    """The process that ran the model ended; the next request starts a new one."""


class RequestRefused(PlaygroundError):
    """A request outside the limits: too long, too many, or not allowed here.

    setting: the field of Settings that decides so; "" if no setting would allow it.
    """

    def __init__(self, problem: str, remedy: str = "", *, setting: str = "") -> None:
        super().__init__(problem, remedy)
        self.setting = setting


class PromptTooLong(RequestRefused):
    """A program's prompt that does not fit into the context. In tokens."""

    def __init__(self, prompt_tokens: int, context_size: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens:,} tokens; this context holds {context_size:,}, the reply included.",
            "Shorten it, or load the model with a larger context.",
        )
        self.prompt_tokens, self.context_size = prompt_tokens, context_size


class TextTooLong(RequestRefused):
    """A text to embed that is longer than the model reads at once. In tokens."""

    def __init__(self, number: int, text_tokens: int, context_size: int) -> None:
        super().__init__(
            f"Text {number} has {text_tokens:,} tokens; the model reads {context_size:,} at once.",
            "Divide it into shorter texts.",
        )
        self.text_tokens, self.context_size = text_tokens, context_size


class TemplateRefused(PlaygroundError):
    """A chat template that fails, runs too long, or uses what it must not."""


class RemoteProblem(PlaygroundError):
    """An OpenAI-compatible server failed or refused."""


class HubProblem(PlaygroundError):
    """The Hugging Face Hub failed, refused, or could not be reached."""


class HubUnreachable(HubProblem):
    """There is no network here, or the Hub is not to be asked. What is on this computer works as always."""
