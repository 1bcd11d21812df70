"""A desk of two agents, as the OpenAI Agents SDK has them."""

from agents import Agent, RunContextWrapper, function_tool


@function_tool
def opening_hours(context: RunContextWrapper, day: str) -> str:
    """When the shop is open on a day of the week."""
    return f"{day}: 9 to 18, said to {context.context.identity.user}"


refunds = Agent(name="refunds", instructions="You decide on refunds.", handoff_description="For refunds.")
desk = Agent(name="desk", instructions="You are the desk of a shop.", tools=[opening_hours], handoffs=[refunds])
