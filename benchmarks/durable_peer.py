"""Databricks' DurableAgentServer with an echo and its process-local store, in an environment that has it."""

from databricks_agentkit import DurableAgentServer

app = DurableAgentServer()


@app.invoke
async def echo(request: object, context: object) -> object:
    return request
