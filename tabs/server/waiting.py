"""The runs that wait or are being drawn, as Gradio's queue knows them."""

from __future__ import annotations

from typing import Any

from gradio.blocks import Blocks
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage
from starlette.types import Scope

from tabs.lane import LANE


def blocks_of(scope: Scope) -> Blocks:
    """Returns the app that answers a request, also where it is mounted in another one."""
    return scope["app"].get_blocks()


def waiting(queue: Queue) -> list[Event]:
    """Returns the runs that wait for the lane, the next one first."""
    events = queue.event_queue_per_concurrency_id.get(LANE)
    return list(events.queue) if events else []


def running(queue: Queue) -> list[Event]:
    """Returns the runs that are being drawn."""
    jobs = [job for job in queue.active_jobs if job]
    return [event for job in jobs for event in job if event.concurrency_id == LANE]


async def end(queue: Queue, event: Event, message: str) -> None:
    """Ends a run that waits or is being drawn, and leaves a message for whoever reads it later.

    Of a run that is being drawn, the step is finished.
    """
    event.alive = False
    await queue.remove_from_queue(event._id)
    messages = queue.pending_messages_per_session.get(event.session_hash)
    if messages is None:
        return
    others: list[Any] = []
    while not messages.empty():
        others.append(messages.get_nowait())
    for other in others:
        if other.event_id != event._id:
            messages.put_nowait(other)
    output = {"error": message, "visible": True, "duration": 10, "title": "Error"}
    messages.put_nowait(ProcessCompletedMessage(output=output, success=False, event_id=event._id))


def forget(queue: Queue, session_hash: str) -> None:
    """Drops what nobody has read of a session that has no runs any more."""
    queue.pending_messages_per_session.pop(session_hash, None)
    queue.pending_event_ids_session.pop(session_hash, None)
