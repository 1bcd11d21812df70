"""Goes on with a conversation by langchain's ChatDatabricks: `python chat_databricks.py SERVER CONVERSATION`."""

import json
import sys

from databricks.sdk import WorkspaceClient
from databricks_langchain import ChatDatabricks
from databricks_openai import DatabricksOpenAI


def main(server: str, conversation: str) -> None:
    workspace = WorkspaceClient(host=server, token="none", auth_type="pat")
    chat = ChatDatabricks(model="analyst", use_responses_api=True, workspace_client=workspace)
    chat.client = DatabricksOpenAI(workspace_client=workspace, base_url=f"{server}/api")
    message = chat.invoke("and only in Rome", conversation=conversation)
    chunks = [chunk.content for chunk in chat.stream("what about Oslo?", conversation=conversation)]
    texts = [text_of(content) for content in (message.content, *chunks)]
    sys.stdout.write("TOLD " + json.dumps({"invoked": texts[0], "streamed": "".join(texts[1:])}) + "\n")


def text_of(content) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


main(*sys.argv[1:])
