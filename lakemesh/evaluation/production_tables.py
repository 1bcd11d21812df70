"""The tables that `lakemesh monitor` fills."""

from lakemesh.lakehouse.tables import Column, TableSpec

SCORE_COLUMNS = tuple(
    Column(name, kind)
    for name, kind in {
        "execution_id": "STRING", "timestamp": "TIMESTAMP", "scored_at": "TIMESTAMP", "agent_id": "STRING",
        "metric": "STRING", "identity": "STRING", "value": "DOUBLE", "rationale": "STRING", "error": "STRING",
        "prompts": "ARRAY<STRING>", "models": "ARRAY<STRING>",
    }.items()
)  # fmt: skip
DRIFT_COLUMNS = (
    Column("timestamp", "TIMESTAMP", "when it was looked at"),
    Column("agent_id", "STRING"),
    Column("hours", "DOUBLE", "how long the window is, and the one before it"),
    Column("name", "STRING"),
    Column("value", "DOUBLE"),
)
PRECISION_COLUMNS = (
    Column("day", "DATE", "of the executions"),
    Column("agent_id", "STRING"),
    Column("computed_at", "TIMESTAMP"),
    Column("executions", "BIGINT"),
    Column("labelled", "BIGINT", "of them, those whose label is known by now"),
    Column("positives", "BIGINT"),
    Column("top", "BIGINT", "so many of the highest scores are looked at"),
    Column("precision_at_top", "DOUBLE", "the share of positives among them, where all of them are labelled"),
    Column("auc_roc", "DOUBLE", "over those that are labelled"),
)


def scores_table(schema: str) -> TableSpec:
    return TableSpec(
        name=f"{schema}.execution_scores", columns=SCORE_COLUMNS, comment="Scores of executions in production"
    )


def drift_table(schema: str) -> TableSpec:
    return TableSpec(
        name=f"{schema}.execution_drift", columns=DRIFT_COLUMNS, comment="How executions differ from those before"
    )


def precision_table(schema: str) -> TableSpec:
    return TableSpec(
        name=f"{schema}.label_precision", columns=PRECISION_COLUMNS, comment="Precision by day, as labels come in"
    )
