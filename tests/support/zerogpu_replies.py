"""Replies by the real package `spaces`, each a line of JSON: `python -m tests.support.zerogpu_replies FILE`.

A process of its own, because the package decides when it is imported whether this is a ZeroGPU Space. The replies go
to a file, because the package prints to the standard output from threads of its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from playground.engine.protocol import Finished, Remark, ReplyRequest, Token
from playground.engine.zerogpu.gpu_function import declare_gpu_function
from playground.llama.sampling_extras import GREEDY
from tests.support.zerogpu_service import libraries, visitors_token, zerogpu_service

PROMPT = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"


class Headers(dict[str, str]):
    """As Gradio's request has them: `spaces` takes no plain dict."""


def main(starter: Path, replies: Path) -> None:
    with zerogpu_service() as service, tempfile.TemporaryDirectory() as folder:
        os.environ.update(service.variables)
        declare_gpu_function()  # first of all, as app.py does
        from gradio.context import LocalContext
        from spaces.zero.config import get_config

        from playground.engine.local.client import LocalEngine
        from playground.engine.local.cpu_shares import CpuShares
        from playground.engine.zerogpu.engine import ZeroGpuEngine
        from playground.engine.zerogpu.gpu import ZeroGpu
        from playground.llama.params import ContextParameters

        LocalContext.request.set(SimpleNamespace(headers=Headers({"x-ip-token": visitors_token()})))  # type: ignore
        gpu = ZeroGpu(libraries(Path(folder, "libraries")), "", 1)
        shares = CpuShares(1)
        local = LocalEngine(starter, ContextParameters(512), shares)
        for _ in local.load_model():
            pass
        engine = ZeroGpuEngine(local, gpu, starter.stat().st_size, "anna")

        def ask(max_tokens: int, stop_after: int | None = None) -> None:
            service.asked.clear()
            text, remarks, finished = "", [], None
            with engine.start_reply(ReplyRequest(PROMPT, GREEDY, max_tokens)) as stream:
                for event in stream:
                    text += event.text if isinstance(event, Token | Finished) else ""
                    remarks += [event.text] if isinstance(event, Remark) else []
                    finished = event.reason if isinstance(event, Finished) else None
                    if isinstance(event, Token) and event.count == stop_after:
                        break
            if engine.is_on_gpu or stop_after:
                service.wait_for("/release")
            said = {"text": text, "remarks": remarks, "finished": finished, "on_gpu": engine.is_on_gpu}
            said["seconds"] = service.schedules[-1]["durationSeconds"]
            with replies.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**said, "asked": service.asked}) + "\n")

        ask(12)
        service.waiting = 2
        get_config()["duration_factor"] = 1.5  # as on half of an RTX PRO 6000
        ask(12)
        ask(400, stop_after=3)
        service.waiting, service.left, service.again = 0, 7, 3700
        ask(12)
        ask(12)
        local.close()
        shares.close()


if __name__ == "__main__":
    main(Path(os.environ["STARTER"]), Path(sys.argv[1]))
