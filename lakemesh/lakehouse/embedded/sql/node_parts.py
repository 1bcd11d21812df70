"""What of a node its handler reads; anything else that is there is refused."""

from sqlglot import exp

USUAL_PARTS = frozenset({"this", "expression", "expressions"})
PARTS: dict[type[exp.Expr], frozenset[str]] = {
    kind: USUAL_PARTS | set(parts.split())
    for kind, parts in {
        exp.Literal: "is_string",
        exp.Column: "table db catalog",
        exp.Placeholder: "kind",
        exp.Like: "negate",
        exp.ILike: "negate",
        exp.In: "query",
        exp.Between: "low high",
        exp.Case: "ifs default",
        exp.Cast: "to",
        exp.TryCast: "to safe",
        exp.DPipe: "safe",
        exp.Interval: "unit",
        exp.JSONExtract: "variant_extract only_json_types requires_json",
        exp.Trim: "position",
        exp.Substring: "start length",
        exp.StrPosition: "substr position",
        exp.Overlay: "from_ for_",
        exp.Window: "partition_by order spec alias over",
        exp.Identifier: "quoted",
        exp.Select: "hint distinct from_ joins laterals where group having qualify windows order limit offset with_",
        exp.Subquery: "alias order limit offset with_",
        exp.Concat: "safe coalesce",
        exp.Div: "typed safe",
        exp.Bracket: "offset safe returns_list_for_maps",
    }.items()
}
