"""Every use of a part of Gradio that its documentation does not promise, each with its reason.

`check_gradio` runs at start-up, so that a Gradio without one of these parts is refused in one sentence, not met as a
traceback in the middle of a visit.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio import blocks, http_server, networking, routes, utils
from gradio.state_holder import StateHolder
from gradio.utils import SpacesReloader, get_upload_folder
from gradio_client import Client
from jinja2 import ChoiceLoader, DictLoader

from playground.errors import PlaygroundError
from playground.web.waiting_loop import WaitingLoop

WRITTEN_FOR: Final = "6.31"
_OF_A_PAGE: Final = (
    "config",
    "fns",
    "space_id",
    "mcp_server_obj",
    "_queue.ANALYTICS_MAX_EVENTS",
    "_queue.event_ids_to_events",
    "_queue.pending_event_ids_session",
    "_queue.pending_messages_per_session",
    "_queue.progress_update_sleep_when_free",
    "_queue.push",
    "_queue.start_processing",
)
_OF_AN_EVENT: Final = ("fn", "inputs", "api_name", "api_visibility", "show_progress", "show_progress_on")
_MOST_ASKS: Final = 20  # of 3 seconds each
_OF_ITS_SESSIONS: Final = ("session_data", "time_last_used", "lock")
_PAGE_TEMPLATE: Final = "frontend/index.html"
_END_OF_HEAD: Final = "</head>"
_LINK_TAG: Final = re.compile(r"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>")
_OF_ITS_TOOLS: Final = ("_client_instance", "local_url", "postprocess_output_data")


def check_gradio(page: gr.Blocks) -> None:
    """Raises PlaygroundError if the installed Gradio lacks something that this module uses."""
    _check(page, _OF_A_PAGE)
    for event in page.fns.values():
        _check(event, _OF_AN_EVENT)
    _check(StateHolder(), _OF_ITS_SESSIONS)  # type: ignore[no-untyped-call]


def _check(thing: object, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            attrgetter(path)(thing)
        except AttributeError as error:
            raise PlaygroundError(
                f"The playground was written for Gradio {WRITTEN_FOR}, and Gradio {gr.__version__}, which is installed "
                f"here, has no `{type(thing).__name__}.{path}`.",
                f'Install the other: .venv/bin/python -m pip install "gradio=={WRITTEN_FOR}.*"',
            ) from error


def offered_endpoints(app: object) -> dict[str, list[str]]:
    """The endpoints that programs may call, each with the names of its parameters; none of an app without a page.

    app: Gradio's, as a server has it. Gradio checks the number of values only when a call runs.
    """
    page = app.get_blocks() if isinstance(app, routes.App) else None
    endpoints: dict[str, list[str]] = {}
    for event in page.fns.values() if page else ():
        if event.fn is not None and event.api_visibility == "public" and isinstance(event.api_name, str):
            parameters = inspect.signature(event.fn).parameters.values()
            names = [one.name for one in parameters if one.annotation is not gr.Request]
            endpoints[event.api_name] = names[: len(event.inputs)]
    return endpoints


def is_signed_in(app: object, cookies: Mapping[str, str]) -> bool:
    """Whether Gradio answers calls with these cookies; everybody's, where the page has no password.

    app: Gradio's, as a server has it. Gradio checks this only when a call reaches it.
    """
    if not isinstance(app, routes.App) or app.auth is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(cookies[name] in app.tokens for name in names if name in cookies)


def upload_folder() -> Path:
    """Where Gradio writes what a browser uploads; named by GRADIO_TEMP_DIR, else in the folder for temporary files."""
    return Path(get_upload_folder())


def open_no_second_port() -> None:
    """On a Space, Gradio would open port 7887 beside the page's, at every address: the Hub's hot reload.

    Who reaches it writes the files of this program, and a second playground on the same computer finds it taken.
    """
    _check(http_server, ("watchfn_spaces",))
    http_server.watchfn_spaces = _wait_for_end  # type: ignore[attr-defined]


def wait_for_a_slow_start() -> None:
    """Let Gradio ask its own server for the page up to 20 times when it starts.

    Left alone, it ends if one answer takes 3 seconds, as on a computer whose cores are all busy.
    """
    _check(networking, ("url_ok",))
    usual = networking.url_ok
    if not getattr(usual, "asks_again", False):
        networking.url_ok = _AskAgain(usual)


class _AskAgain:
    """Gradio's `url_ok(address)` -> whether it answers, asked until it does."""

    asks_again = True

    def __init__(self, usual: Callable[[str], bool]) -> None:
        self._usual = usual

    def __call__(self, url: str) -> bool:
        return any(self._usual(url) for _ in range(_MOST_ASKS))


def _wait_for_end(reloader: SpacesReloader) -> None:
    reloader.stop_event.wait()


# --- while the page is built ---


@contextmanager
def no_server_yet() -> Iterator[None]:
    """Let Gradio make no server for a page that is being built; `launch` makes the one that serves.

    Left alone, it makes three and uses none of them, which takes a seventh of the time in which the page is built.
    """
    _check(blocks, ("App.create_app",))
    usual = blocks.App  # type: ignore[attr-defined]
    blocks.App = _NoServer  # type: ignore[attr-defined, assignment]
    try:
        yield
    finally:
        blocks.App = usual  # type: ignore[attr-defined]


class _NoServer:
    """In place of Gradio's `App`."""

    @staticmethod
    def create_app(*values: Any, **named: Any) -> None:
        pass


def report_progress_in_one_place(page: gr.Blocks, place: gr.HTML) -> None:
    """Let every event report its progress in the same component, in which none shows.

    Whenever an event takes a step, Gradio's page copies all that it knows of each component in which any event ever
    reported, on the cores that the model decodes with. Each event has an argument for it; here it is set for all.
    """
    for event in page.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = [place]


def wrap_generators(page: gr.Blocks, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a wrapper around the function of every event that yields. Gradio offers no hook for all events."""
    for event in page.fns.values():
        if inspect.isgeneratorfunction(event.fn):
            event.fn = wrap(event.fn)


def leave_out_the_hubs_header(page: gr.Blocks) -> None:
    """On a Space Gradio adds a header of its own, with parts from other servers, and no argument prevents it."""
    page.space_id = None


def replace_link_tags(head: str) -> None:
    """Let the file of every page have this markup in its head, and no tags of Gradio that describe it to other sites.

    Gradio's template has two sets of them, one of them about Gradio, and no picture. `head` may hold expressions of it.
    """
    environment = routes.templates.env
    loader = environment.loader
    if loader is None:
        return
    if isinstance(loader, ChoiceLoader):  # of a page before this one
        loader = loader.loaders[-1]
    source = loader.get_source(environment, _PAGE_TEMPLATE)[0]
    described = _LINK_TAG.sub("", source).replace(_END_OF_HEAD, f"{head}\n{_END_OF_HEAD}", 1)
    environment.loader = ChoiceLoader([DictLoader({_PAGE_TEMPLATE: described}), loader])


def set_first_properties(page: gr.Blocks, properties: Mapping[Any, Mapping[str, Any]]) -> None:
    """Let the file of a page that is served show these properties of components, in place of those at its start."""
    by_id = {component._id: one for component, one in properties.items()}
    for part in page.config["components"]:
        if part["id"] in by_id:
            part["props"] = {**part["props"], **by_id[part["id"]]}


def send_updates_whole() -> None:
    """Let each message of a stream hold an update of several properties whole, not as what changed since the last one.

    The browser applies a change to the object with which the message before may still wait to be drawn. So a busy
    browser loses what the next message no longer has: a button that was to appear. Texts and lists come as changes.
    """
    if not getattr(utils.diff, "sends_whole", False):
        utils.diff = _WholeUpdates(utils.diff)


class _WholeUpdates:
    """Gradio's `diff(old, new)` -> edits, except that a dict is replaced."""

    sends_whole = True

    def __init__(self, usual: Callable[[Any, Any], list[Any]]) -> None:
        self._usual = usual

    def __call__(self, old: Any, new: Any) -> list[Any]:
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            return [["replace", [], new]]
        return self._usual(old, new)


def keep_rows_of_shut_tabs() -> None:
    """Let an update that names no property of a `gr.HTML`'s template leave them all as they are.

    Gradio takes the mark of an update for a property and sends it in place of the others. What stands in a tab that was
    never opened loses its rows by that, and an event sends such an update to each of its outputs that it does not name.
    """
    _check(blocks, ("postprocess_update_dict",))
    usual = blocks.postprocess_update_dict
    if getattr(usual, "keeps_properties", False):
        return

    @functools.wraps(usual)
    def postprocess(*values: Any, **named: Any) -> dict[str, Any]:
        update: dict[str, Any] = usual(*values, **named)
        properties = update.get("props")
        if isinstance(properties, dict):
            properties.pop("__type__", None)
            if not properties:
                del update["props"]
        return update

    postprocess.keeps_properties = True  # type: ignore[attr-defined]
    blocks.postprocess_update_dict = postprocess


def spare_outputs_that_stay() -> None:
    """Let a step of an event take time for the outputs alone that it changes.

    Gradio makes each output anew as a component, and describes it twice, even where the step leaves it as it is. A
    token changes two outputs of twenty, on the cores that the model decodes with.
    """
    _check(gr.Blocks, ("postprocess_data",))
    usual = gr.Blocks.postprocess_data
    if getattr(usual, "spares_outputs", False):
        return

    @functools.wraps(usual)
    async def postprocess(page: gr.Blocks, event: Any, predictions: Any, state: Any) -> list[Any]:
        outputs = event.outputs
        if event.batch or not isinstance(predictions, dict) or not predictions or not predictions.keys() <= {*outputs}:
            return await usual(page, event, predictions, state)
        new = {one: predictions[one] for one in outputs if predictions.get(one, gr.skip()) != gr.skip()}
        sent: Iterator[Any] = iter(())
        if new:
            smaller, values = copy.copy(event), [*new.values()]
            smaller.outputs = [*new]
            sent = iter(await usual(page, smaller, values if len(values) > 1 else values[0], state))
        return [next(sent) if one in new else None if one.stateful else gr.skip() for one in outputs]

    postprocess.spares_outputs = True  # type: ignore[attr-defined]
    gr.Blocks.postprocess_data = postprocess  # type: ignore[method-assign, assignment]


def repeat_nothing_at_the_end() -> None:
    """Let the last message of an event that yields change nothing on the page.

    In it, Gradio repeats what the event sent last. That would undo what the visitor has changed meanwhile, and draw a
    long reply once more. An event for programs keeps it: there, it is the answer.
    """
    _check(gr.Blocks, ("handle_streaming_diffs",))
    usual = gr.Blocks.handle_streaming_diffs
    if getattr(usual, "repeats_nothing", False):
        return

    @functools.wraps(usual)
    def handle(
        page: gr.Blocks, event: Any, data: Any, session_hash: Any, run: Any, final: bool, simple_format: bool = False
    ) -> list[Any]:
        sent: list[Any] = usual(page, event, data, session_hash, run, final, simple_format)
        if not final or event.api_visibility != "private":
            return sent
        return [None if one.stateful else gr.skip() for one in event.outputs]

    handle.repeats_nothing = True  # type: ignore[attr-defined]
    gr.Blocks.handle_streaming_diffs = handle  # type: ignore[method-assign, assignment]


def describe_no_sessions() -> None:
    """Let Gradio keep no description of every component for each session, with all that stands in it.

    It makes and renews them for links to a page with everything on it, which it would write to the server's disk when
    asked. This page has no such links.
    """
    _check(blocks.BlocksConfig, ("config_for_block",))
    usual = blocks.BlocksConfig.config_for_block
    if getattr(usual, "only_of_the_page", False):
        return

    @functools.wraps(usual)
    def describe(number: int, rendered: list[int], block: Any, renderable: Any = None) -> dict[str, Any]:
        return usual(number, rendered, block, renderable) if rendered else {}  # a session says that nothing is rendered

    describe.only_of_the_page = True  # type: ignore[attr-defined]
    blocks.BlocksConfig.config_for_block = staticmethod(describe)  # type: ignore[method-assign, assignment]


def keep_no_analytics(page: gr.Blocks) -> None:
    """Whenever an event ends, Gradio makes a table of the last 10,000 events; one is the fewest that it keeps."""
    page._queue.ANALYTICS_MAX_EVENTS = 1


def rest_while_idle(page: gr.Blocks) -> None:
    """Let the queue wait until an event comes.

    Left alone, it looks a thousand times a second whether one did, which takes 4 % of a core, and a hundred times for a
    `gr.Progress`, of which this page has none.
    """
    queue = page._queue
    queue.progress_update_sleep_when_free = 1.0
    push, start_processing = queue.push, queue.start_processing
    # Replaced together, since an event must wake the loop: `push` is what every route calls.
    waiting = WaitingLoop(start_processing, lambda: len(queue) == 0 and not queue.stopped)

    async def push_and_wake(*arguments: Any, **named: Any) -> Any:
        try:
            return await push(*arguments, **named)
        finally:
            waiting.wake()

    queue.push = push_and_wake  # type: ignore[method-assign]
    queue.start_processing = waiting.run  # type: ignore[method-assign]


# --- sessions: Gradio has no public way to ask for them or to end one ---


def known_sessions(page: gr.Blocks) -> tuple[str, ...]:
    """Those of which Gradio keeps a state."""
    return tuple(page.state_holder.session_data)


def last_used(page: gr.Blocks, session: str) -> datetime | None:
    """When an event of the session last read or wrote its state."""
    return page.state_holder.time_last_used.get(session)


def has_events_under_way(page: gr.Blocks, session: str) -> bool:
    """Whether an event of the session waits or runs."""
    return any(event.session_hash == session for event in tuple(page._queue.event_ids_to_events.values()))


def has_message_queue(page: gr.Blocks, session: str) -> bool:
    """Whether Gradio keeps messages for the session, so that its page can ask for them."""
    return session in page._queue.pending_messages_per_session


def has_unsent_messages(page: gr.Blocks) -> bool:
    """Whether an event of some session has an answer that its page has not asked for yet."""
    return any(tuple(page._queue.pending_event_ids_session.values()))


def forget_session(page: gr.Blocks, session: str) -> None:
    """Drop all that Gradio keeps of a session.

    Left alone, it keeps the state for an hour, and the messages until 2,000 other sessions have come.
    """
    sessions, queue = page.state_holder, page._queue
    with sessions.lock:
        sessions.session_data.pop(session, None)
        sessions.time_last_used.pop(session, None)
    queue.pending_event_ids_session.pop(session, None)
    queue.pending_messages_per_session.pop(session, None)


# --- tools of the MCP server ---


def prepare_mcp_tools(page: gr.Blocks, password: str, to_content: Callable[[Sequence[Any], str], list[Any]]) -> None:
    """Let the tools of a page that is served answer as `to_content` says, and sign them in where there is a password.

    Gradio's tools write Python's notation where a program expects JSON, and call the page without a password.
    """
    tools = page.mcp_server_obj
    if tools is None:
        return
    _check(tools, _OF_ITS_TOOLS)
    tools.postprocess_output_data = to_content  # type: ignore[method-assign, assignment]
    if password:
        # As Gradio makes its own, and with the password.
        tools._client_instance = Client(
            tools.local_url or page.local_url or "",
            auth=("mcp", password),
            headers={"x-gradio-user": "mcp"},
            download_files=False,
            verbose=False,
            analytics_enabled=False,
            ssl_verify=False,
            _skip_components=False,
        )
