"""The short names of shipped agents, for `class` in configuration."""

SHIPPED = {
    "echo": "lakemesh.agents.echo:EchoAgent",
    "tool_agent": "lakemesh.agents.tool_agent:ToolAgent",
    "supervisor": "lakemesh.agents.supervisor:Supervisor",
    "analyst": "lakemesh.agents.analyst:Analyst",
    "fraud_detector": "lakemesh.agents.fraud.fraud_detector:FraudDetector",
    "risk_scorer": "lakemesh.agents.fraud.risk_scorer:RiskScorer",
    "pipeline_builder": "lakemesh.agents.pipeline_builder:PipelineBuilder",
    "narrative": "lakemesh.agents.fraud.narrative:NarrativeAgent",
    "query": "lakemesh.agents.tools.lakehouse:QueryTool",
    "describe": "lakemesh.agents.tools.lakehouse:DescribeTool",
    "search_memory": "lakemesh.agents.tools.lakehouse:SearchMemoryTool",
    "search_table": "lakemesh.agents.tools.search:SearchTableTool",
    "read_prompts": "lakemesh.agents.tools.lakehouse:PromptTool",
    "run_job": "lakemesh.agents.tools.actions.jobs:JobTool",
    "run_file": "lakemesh.agents.tools.actions.jobs:FileTool",
    "update_pipeline": "lakemesh.agents.tools.actions.jobs:PipelineTool",
    "openai_agent": "lakemesh.agents.frameworks.openai_agents:OpenAIAgent",
    "pydantic_agent": "lakemesh.agents.frameworks.pydantic_ai:PydanticAgent",
    "langgraph": "lakemesh.agents.frameworks.langgraph:GraphAgent",
    "unity_catalog_function": "lakemesh.agents.tools.unity_catalog:UnityCatalogTool",
}
