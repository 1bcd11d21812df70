"""The agents of APP_NAME."""
