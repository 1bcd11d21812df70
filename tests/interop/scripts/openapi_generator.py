"""What `openapi-generator` made of our document in Python, at work: every route of the API, and a problem."""

import sys

from generated import AgentsApi, ApiClient, BatchRequest, Configuration, ExecuteRequest, HealthApi
from generated.exceptions import ApiException

with ApiClient(Configuration(host=sys.argv[1])) as client:
    api = AgentsApi(client)
    named = ExecuteRequest(agent="echo", data={"message": "hello"})
    answer = api.execute(named)
    assert answer.result["message"] == "hello"
    assert len(answer.metadata["execution_id"]) == 32
    batch = api.execute_batch(BatchRequest(requests=[named, ExecuteRequest(agent_name="none")]))
    assert batch.results[0].output.result["message"] == "hello"
    assert batch.results[1].error.code == "unknown_agent"
    assert "echo" in [agent.name for agent in api.list_agents().agents]
    assert api.describe_agent("echo").name == "echo"
    HealthApi(client).health_ready()
    problems = {}
    for name in ("none", "writer"):
        try:
            api.execute(ExecuteRequest(agent=name))
        except ApiException as error:
            problems[name] = error.data

assert (problems["none"].code, "echo" in problems["none"].agents) == ("unknown_agent", True)
assert problems["writer"].errors[0].path == "data.words"
