"""A draft that a person approves, as LangGraph has it."""

from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


async def draft(state: State, config: RunnableConfig) -> dict[str, Any]:
    context = config["configurable"]["lakemesh"]
    said = [
        {"role": "user" if one.type == "human" else "assistant", "content": one.content} for one in state["messages"]
    ]
    answer = await context.models.chat(said)
    get_stream_writer()("drafted ")
    return {"messages": [{"role": "assistant", "content": answer.text}]}


async def approve(state: State) -> dict[str, Any]:
    verdict = interrupt(f"Send this? {state['messages'][-1].content}")
    return {"messages": [{"role": "assistant", "content": f"{state['messages'][-1].content} ({verdict})"}]}


review = StateGraph(State)
review.add_node("draft", draft)
review.add_node("approve", approve)
review.add_edge(START, "draft")
review.add_edge("draft", "approve")
review.add_edge("approve", END)
