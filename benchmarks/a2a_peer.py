"""The official SDK's server with its own request handler and in-memory store, and one trivial agent."""

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, Part, Task, TaskState, TaskStatus
from starlette.applications import Starlette


class EchoExecutor(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        working = TaskStatus(state=TaskState.TASK_STATE_WORKING)
        await event_queue.enqueue_event(
            Task(id=context.task_id, context_id=context.context_id, status=working, history=[context.message])
        )
        updater = TaskUpdater(event_queue, context.task_id or "", context.context_id or "")
        await updater.add_artifact([Part(data=context.message.parts[0].data)], name="result")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


def sdk() -> Starlette:
    card = AgentCard(name="peer", version="1", capabilities=AgentCapabilities(streaming=True))
    handler = DefaultRequestHandler(EchoExecutor(), InMemoryTaskStore(), card)
    return Starlette(routes=create_jsonrpc_routes(handler, "/a2a/rpc"))


app = sdk()
