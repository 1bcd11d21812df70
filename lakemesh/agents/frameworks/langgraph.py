"""Graphs of LangGraph (`pip install 'lakemesh[langgraph]'`).

The graph is a `StateGraph` that is not compiled yet. It runs with the thread of the caller's session: state is in
PostgreSQL where there is a database, else in this process. A node finds the `AgentContext` at
`config["configurable"]["lakemesh"]`; what it writes with LangGraph's stream writer is streamed; what it asks with
`interrupt` is asked of the caller.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from lakemesh.agents.base import AgentContext
from lakemesh.agents.frameworks.base import FrameworkAgent, Turn
from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.tool_agent import ChatMessage
from lakemesh.schemas import AgentInput, TextDelta

MAX_QUESTIONS = 32
ANSWER = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


class GraphOptions(BaseModel):
    """`agent` is where the `StateGraph` is, `package.module:name`. `input` names the member of its state that is given
    the message, and `output` the one that is the answer; `messages` is LangGraph's list of messages."""

    model_config = ConfigDict(extra="forbid")

    agent: str = Field(pattern=r"^[\w.]+:\w+$")
    input: str = "messages"
    output: str = "messages"
    history: int = 0


class GraphAgent(FrameworkAgent):
    """Answers a message by a graph of LangGraph."""

    options_model: ClassVar[type[BaseModel]] = GraphOptions
    options: GraphOptions  # type: ignore[assignment]  # its tools and models are the graph's own affair

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        return []

    async def start(self) -> None:
        from langgraph.checkpoint.memory import InMemorySaver

        await super().start()
        self._in_process = InMemorySaver()

    async def run(self, request: AgentInput[ChatMessage], context: AgentContext, turn: Turn) -> Any:
        from langgraph.types import Command

        user = context.identity.user
        graph = self.agent.compile(checkpointer=self._checkpointer(user), store=self._store(user))
        thread = request.session_id or context.scope.execution_id
        config = {"configurable": {"thread_id": f"{user}/{thread}", "lakemesh": context}}
        given: Any = {self.options.input: self._message(request.data.message)}
        for _ in range(MAX_QUESTIONS):
            asked, state = await stream(graph, given, config, context)
            if asked is None:
                return self._answer(state)
            answer = await context.ask(ANSWER, str(asked))
            given = Command(resume=answer["answer"])
        raise RuntimeError(f"The graph asked more than {MAX_QUESTIONS} questions.")

    def _message(self, message: str) -> Any:
        return [{"role": "user", "content": message}] if self.options.input == "messages" else message

    def _answer(self, state: Mapping[str, Any]) -> Any:
        found = state[self.options.output]
        return found[-1].content if self.options.output == "messages" else found

    def _checkpointer(self, user: str) -> Any:
        database = self.services.workspace.database
        if database is None:
            return self._in_process
        from lakemesh.sessions.langgraph import Checkpointer

        return Checkpointer(database, agent=self.name, user=user)

    def _store(self, user: str) -> Any:
        database = self.services.workspace.database
        if database is None:
            return None
        from lakemesh.sessions.langgraph import GraphStore

        return GraphStore(database, agent=self.name, user=user)


async def stream(graph: Any, given: Any, config: Any, context: AgentContext) -> tuple[Any, Mapping[str, Any]]:
    """Run on until the graph ends or asks: what it asks, and its state."""
    asked: Any = None
    state: Mapping[str, Any] = {}
    async for mode, content in graph.astream(given, config, stream_mode=["values", "custom"]):
        if mode == "custom" and isinstance(content, str):
            context.emit(TextDelta(text=content))
        elif mode == "values":
            state = content
            interrupts = content.get("__interrupt__") or ()
            asked = interrupts[0].value if interrupts else None
    return asked, state
