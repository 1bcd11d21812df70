"""The features of `lakemesh.agents.fraud.features`, by Spark, for tables of any size.

Equal to the last bit: sums are of whole numbers, and a mean is the same two divisions. Windows are differences of
running totals, each one pass over a sorted partition, so the cost grows as the table does and not with the windows.
"""

from lakemesh.agents.fraud.features import (
    AMOUNT_UNITS,
    DAY_SECONDS,
    EPOCH_WEEKDAY,
    FEATURES,
    FIRST_WEEKEND_DAY,
    LABEL_DELAY_DAYS,
    LAST_NIGHT_HOUR,
    WINDOWS_DAYS,
)

JOINED = """
SELECT t.transaction_id, unix_timestamp(t.tx_datetime) AS time, t.customer_id, t.terminal_id, t.amount,
       coalesce(l.is_fraud, false) AS is_fraud
FROM (SELECT *, row_number() OVER (PARTITION BY transaction_id ORDER BY tx_datetime) AS place FROM {transactions}) t
LEFT JOIN (SELECT transaction_id, max_by(is_fraud, known_at) AS is_fraud FROM {labels} GROUP BY transaction_id) l
ON l.transaction_id = t.transaction_id
WHERE t.place = 1
"""


def joined(transactions: str, labels: str) -> str:
    """The statement for each transaction once, with its newest label; without one it is no fraud. `time` is Unix
    seconds."""
    return JOINED.format(transactions=transactions, labels=labels)


def with_features(source: str) -> str:
    """The statement `source` (`transaction_id`, `time`, `customer_id`, `terminal_id`, `amount`, `is_fraud`) with a
    column for each name in `FEATURES` but `amount`, which it has."""
    names = [name for name in FEATURES if name != "amount"]
    columns = ", ".join(f"{expression} AS {name}" for name, expression in zip(names, expressions(), strict=True))
    totals = f"SELECT *, {', '.join(customer_totals())} FROM ({source})"  # noqa: S608 (of this module's own parts)
    totals = f"SELECT *, {', '.join(terminal_totals())} FROM ({totals})"  # noqa: S608
    return f"SELECT transaction_id, time, customer_id, terminal_id, amount, is_fraud, {columns} FROM ({totals})"  # noqa: S608


def customer_totals() -> list[str]:
    """Numbers and sums of a customer's transactions up to this one, and of those that each window leaves behind."""
    units = f"CAST(rint(amount * {AMOUNT_UNITS}D) AS BIGINT)"
    now = "OVER (PARTITION BY customer_id ORDER BY time, transaction_id ROWS UNBOUNDED PRECEDING)"
    found = [f"count(1) {now} AS c_n", f"sum({units}) {now} AS c_s"]
    for days in WINDOWS_DAYS:
        before = range_up_to("customer_id", days * DAY_SECONDS)
        found += [f"count(1) {before} AS c_n{days}", f"coalesce(sum({units}) {before}, 0) AS c_s{days}"]
    return found


def terminal_totals() -> list[str]:
    """Numbers and frauds of a terminal's transactions up to the delay, and up to each window's beginning before it."""
    found = []
    for days in (0, *WINDOWS_DAYS):
        before = range_up_to("terminal_id", (LABEL_DELAY_DAYS + days) * DAY_SECONDS)
        frauds = f"coalesce(sum(CAST(is_fraud AS BIGINT)) {before}, 0)"
        found += [f"count(1) {before} AS t_n{days}", f"{frauds} AS t_f{days}"]
    return found


def range_up_to(key: str, seconds: int) -> str:
    return f"OVER (PARTITION BY {key} ORDER BY time RANGE BETWEEN UNBOUNDED PRECEDING AND {seconds} PRECEDING)"


def expressions() -> list[str]:
    """In the order of `FEATURES`, without `amount`."""
    weekday = f"(CAST(floor(time / {DAY_SECONDS}) AS BIGINT) + {EPOCH_WEEKDAY}) % 7"
    hour = f"CAST(floor((time % {DAY_SECONDS}) / 3600) AS BIGINT)"
    found = [
        f"CAST({weekday} >= {FIRST_WEEKEND_DAY} AS DOUBLE)",
        f"CAST({hour} <= {LAST_NIGHT_HOUR} AS DOUBLE)",
    ]
    for days in WINDOWS_DAYS:
        count = f"CAST(c_n - c_n{days} AS DOUBLE)"
        found += [count, f"CAST(c_s - c_s{days} AS DOUBLE) / {count} / {AMOUNT_UNITS}D"]
    for days in WINDOWS_DAYS:
        count = f"CAST(t_n0 - t_n{days} AS DOUBLE)"
        share = f"CAST(t_f0 - t_f{days} AS DOUBLE) / {count}"
        found += [count, f"CASE WHEN t_n0 > t_n{days} THEN {share} ELSE 0D END"]
    return found
