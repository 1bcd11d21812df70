"""Agents written with other frameworks, behind lakemesh: their code stays as it is, and gets the server's model routes,
tools, sessions, deadlines and traces. `openai_agents`, `pydantic_ai` and `langgraph` each need their extra."""
