"""Where transactions and what became of them are kept."""

from lakemesh.lakehouse.tables import Column, TableSpec

TRANSACTIONS = "main.fraud.transactions"
LABELS = "main.fraud.labels"


def fraud_tables() -> list[TableSpec]:
    """Labels stand apart from transactions, because they come later: `known_at` says when."""
    return [
        TableSpec(
            name=TRANSACTIONS,
            columns=[
                Column("transaction_id", "BIGINT"),
                Column("tx_datetime", "TIMESTAMP"),
                Column("customer_id", "BIGINT"),
                Column("terminal_id", "BIGINT"),
                Column("amount", "DOUBLE"),
            ],
            comment="Card transactions, as they were authorised",
            cluster_by=("tx_datetime",),
        ),
        TableSpec(
            name=LABELS,
            columns=[
                Column("transaction_id", "BIGINT"),
                Column("is_fraud", "BOOLEAN"),
                Column("known_at", "TIMESTAMP", "when investigation had found out"),
            ],
            comment="What the transactions turned out to be",
            cluster_by=("known_at",),
        ),
    ]
