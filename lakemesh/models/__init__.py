"""Model calls: routes over endpoints, with retries, fallbacks, streaming, tools and structured output."""
