"""Two versions of an agent, and what a worse one may do."""

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: str = "old"
    fails: bool = False
    seconds: float = 0.0
    write_to: str | None = None
    tool: str | None = None


class Versioned(Agent[dict[str, Any], dict[str, Any]]):
    """Says which version it is, and what it was given."""

    options_model = Options

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        options: Options = self.options
        if options.seconds:
            await asyncio.sleep(options.seconds)
        if options.fails:
            raise RuntimeError("this version fails")
        result: dict[str, Any] = {"version": options.version}
        if options.write_to is not None:
            workspace = await context.workspace()
            try:
                await workspace.volumes.write(options.write_to, options.version.encode(), overwrite=True)
            except Exception as error:
                result["written"] = type(error).__name__
        if options.tool is not None:
            try:
                await context.call(options.tool, {})
            except Exception as error:
                result["called"] = type(error).__name__
        if "remember" in request.data:
            await context.memory.remember(f"{options.version} {request.data['remember']}", agent_id=self.name)
        if "ask" in request.data:
            answer = await context.models.chat([{"role": "user", "content": "hello"}], route="quality")
            result["endpoint"] = answer.endpoint
        if "prompt" in request.data:
            result["prompt"] = context.prompts.render(request.data["prompt"], {}).text
        if "flag" in request.data:
            result["flag"] = context.flags.get_string_value(request.data["flag"], "default")
        return AgentOutput(agent_name=self.name, result=result)
