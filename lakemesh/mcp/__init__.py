"""The MCP door: assistants use our agents and tools, our agents use other tool servers."""
