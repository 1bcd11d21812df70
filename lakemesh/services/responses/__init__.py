"""The door in the shape of OpenAI's Responses, for its clients and for those of MLflow's agent server."""
