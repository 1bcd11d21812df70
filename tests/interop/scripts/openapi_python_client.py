"""What `openapi-python-client` made of our document, at work: every route of the API, and a problem."""

import sys

from generated import Client
from generated.api.agents import describe_agent, execute, execute_batch, list_agents
from generated.api.health import health_live, health_ready
from generated.models import (
    AgentList,
    AgentView,
    BatchRequest,
    BatchResponse,
    ExecuteRequest,
    ExecuteRequestData,
    ExecuteResponse,
    Problem,
)  # fmt: skip

client = Client(base_url=sys.argv[1])
data = ExecuteRequestData.from_dict({"message": "hello"})
for named in (ExecuteRequest(agent="echo", data=data), ExecuteRequest(agent_name="echo", data=data)):
    answer = execute.sync(client=client, body=named)
    assert isinstance(answer, ExecuteResponse), answer
    assert answer.result["message"] == "hello"
    assert len(answer.metadata["execution_id"]) == 32

batch = execute_batch.sync(client=client, body=BatchRequest(requests=[named, ExecuteRequest(agent="none")]))
assert isinstance(batch, BatchResponse)
assert batch.results[0].output.result["message"] == "hello"
assert batch.results[1].error.code == "unknown_agent"

agents = list_agents.sync(client=client)
assert isinstance(agents, AgentList)
assert "echo" in [agent.name for agent in agents.agents]
assert isinstance(describe_agent.sync("echo", client=client), AgentView)

problem = execute.sync(client=client, body=ExecuteRequest(agent="none"))
assert isinstance(problem, Problem), problem
assert (problem.code, problem.status, "echo" in problem.agents) == ("unknown_agent", 404, True)
problem = execute.sync(client=client, body=ExecuteRequest(agent="writer"))
assert problem.errors[0].path == "data.words"
assert (
    health_live.sync_detailed(client=client).status_code == health_ready.sync_detailed(client=client).status_code == 200
)
