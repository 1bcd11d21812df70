"""CAST and TRY_CAST as Spark does them under ANSI rules, from each type to each."""

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    DOUBLE,
    STRING,
    TIMESTAMP,
    VOID,
    Type,
    common,
    quoted,
    text_literal,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, mismatch, unsupported

WHOLE = r"[+-]?[0-9]+"
NUMBER = r"(?i)[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?"
REAL = NUMBER + r"[df]?|(?i)[+-]?(nan|inf|infinity)"
DAY = r"[0-9]{4}(-[0-9]{1,2}(-[0-9]{1,2}([ T].*)?)?)?"
MOMENT = (
    r"[0-9]{4}(-[0-9]{1,2}(-[0-9]{1,2}([ T][0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}(\.[0-9]{0,9})?)?)?)?)?"
    r"( ?(Z|UTC|[+-][0-9]{1,2}(:[0-9]{2})?|[A-Z][A-Za-z_]+/[A-Za-z_/]+))?"
)
TRUE, FALSE = "('t', 'true', 'y', 'yes', '1')", "('f', 'false', 'n', 'no', '0')"


def cast(value: Typed, to: Type, *, safe: bool = False) -> Typed:
    """Raises `InvalidRequest` where Spark refuses the pair of types, and for pairs that are not translated."""
    if value.type == to:
        return value
    if value.type == VOID:
        return Typed(f"CAST(NULL AS {to.duck})", to, None)
    sql = _cast(value, to, safe)
    constant = value.value if value.is_constant and value.type.is_integer and to.is_number and not safe else None
    if constant is not None:
        return Typed(sql, to, constant)
    inside = value.inside if to == STRING else None
    return Typed(sql, to, volatile=value.volatile, aggregate=value.aggregate, inside=inside)


def implicit(value: Typed, to: Type, what: str = "The expression") -> Typed:
    """What Spark converts by itself."""
    if value.type == to:
        return value
    if value.type != VOID and common(value.type, to) is None and to != STRING and value.type.name != "VARIANT":
        raise mismatch(what, value.type, to)
    return cast(value, to)


def unify(values: "list[Typed]", what: str) -> list[Typed]:
    """All as the type they have in common. Raises `InvalidRequest` when they have none."""
    kind = VOID
    for value in values:
        found = common(kind, value.type)
        if found is None and STRING in (kind, value.type):
            found = STRING
        if found is None:
            raise mismatch(what, kind, value.type)
        kind = found
    return [cast(value, kind) for value in values]


def _cast(value: Typed, to: Type, safe: bool) -> str:
    source, sql = value.type, value.sql
    if to == STRING:
        return text_of(value)
    if source == STRING:
        return _from_text(sql, to, safe)
    if source.name == "VARIANT":
        return _from_variant(sql, to, safe)
    if source.args or to.args:
        return _nested(value, to, safe)
    return _attempt(_plain(sql, source, to), to, safe)


def _attempt(sql: str, to: Type, safe: bool) -> str:
    return f"{'TRY_CAST' if safe else 'CAST'}({sql} AS {to.duck})"


def _plain(sql: str, source: Type, to: Type) -> str:
    """What DuckDB's CAST is given, so that it does as Spark's."""
    if to.is_integer:
        if source.is_float or source.name == "DECIMAL":
            return f"trunc({sql})"
        if source == TIMESTAMP:
            return f"CAST(floor(epoch_us({sql}) / 1000000) AS BIGINT)"
        if source.is_integer or source.name == "BOOLEAN":
            return sql
    elif to.is_float:
        if source == TIMESTAMP:
            return f"(epoch_us({sql}) / 1000000)"
        if source.is_number or source.name == "BOOLEAN":
            return sql
    elif to.name == "DECIMAL":
        if source.is_float:
            return f"CAST({sql} AS VARCHAR)"
        if source.is_number or source.name == "BOOLEAN":
            return sql
    elif to.name == "BOOLEAN" and source.is_number:
        return f"({sql} <> 0)"
    elif to == TIMESTAMP and source.is_integer:
        return f"make_timestamptz(CAST({sql} AS BIGINT) * 1000000)"
    elif to == TIMESTAMP and (source.is_float or source.name == "DECIMAL"):
        return f"make_timestamptz(CAST(trunc({sql} * 1000000) AS BIGINT))"
    elif to.is_time and source.is_time:
        return sql
    elif to.name == "VARIANT":
        return f"to_json({sql})"
    elif to.name == source.name == "INTERVAL":
        return sql
    raise InvalidRequest(
        f"[DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION] A {source.text} cannot be cast to {to.text:.200}."
    )


def _from_text(sql: str, to: Type, safe: bool) -> str:
    trimmed = f"trim({sql}, E' \\t\\n\\r')"
    if to.is_integer:
        return _checked(sql, trimmed, WHOLE, trimmed, to, safe)
    if to.is_float:
        plain = f"regexp_replace({trimmed}, '([0-9.])[dDfF]$', '\\1')"
        return _checked(sql, trimmed, REAL, plain, to, safe)
    if to.name == "DECIMAL":
        return _checked(sql, trimmed, NUMBER, trimmed, to, safe)
    if to.name == "DATE":
        padded = f"CASE length({trimmed}) WHEN 4 THEN {trimmed} || '-01-01' ELSE {trimmed} || '-01' END"
        day = f"regexp_extract({trimmed}, '^[0-9]+-[0-9]+-[0-9]+')"
        made = f"CASE WHEN {day} = '' THEN {padded} ELSE {day} END"
        return _checked(sql, trimmed, DAY, made, to, safe)
    if to.is_time:
        short = f"WHEN 4 THEN {trimmed} || '-01-01' WHEN 7 THEN {trimmed} || '-01'"
        padded = f"CASE length({trimmed}) {short} ELSE {trimmed} END"
        return _checked(sql, trimmed, MOMENT, padded, to, safe)
    if to.name == "BOOLEAN":
        lowered = f"lower({trimmed})"
        failed = "NULL" if safe else _invalid(sql, to)
        return (
            f"(CASE WHEN {sql} IS NULL THEN NULL WHEN {lowered} IN {TRUE} THEN true"
            f" WHEN {lowered} IN {FALSE} THEN false ELSE {failed} END)"
        )
    if to.name == "BINARY":
        return f"encode({sql})"
    if to.name == "VARIANT":
        return f"to_json({sql})"
    raise mismatch("CAST", STRING, to)


def _checked(sql: str, trimmed: str, pattern: str, made: str, to: Type, safe: bool) -> str:
    """`made`, where the text has the form that Spark takes; a value out of range fails in DuckDB itself."""
    matches = f"regexp_full_match({trimmed}, {text_literal(pattern)})"
    if safe:
        return f"(CASE WHEN {matches} THEN TRY_CAST({made} AS {to.duck}) END)"
    failed = _invalid(sql, to)
    return f"(CASE WHEN {sql} IS NULL THEN NULL WHEN {matches} THEN CAST({made} AS {to.duck}) ELSE {failed} END)"


def _invalid(sql: str, to: Type) -> str:
    after = text_literal(
        f'\' of the type "STRING" cannot be cast to "{to.text}" because it is malformed. Use `try_cast`.'
    )
    return f"error('[CAST_INVALID_INPUT] The value ''' || left({sql}, 100) || {after})"


def _from_variant(sql: str, to: Type, safe: bool) -> str:
    """A VARIANT that is JSON null gives null; numbers and text that do not fit fail, or give null."""
    if to.args:
        made = f"from_json({sql}, {text_literal(json_structure(to))})"
        return f"TRY({made})" if safe else made
    text = f"json_extract_string({sql}, '$')"
    inner = _from_text(text, to, True)
    if to.is_integer:
        inner = f"coalesce({inner}, TRY_CAST(trunc({_from_text(text, DOUBLE, True)}) AS {to.duck}))"
    if safe:
        return inner
    failed = f"error('[INVALID_VARIANT_CAST] The variant value `' || {sql} || '` cannot be cast into \"{to.text}\".')"
    return f"(CASE WHEN {text} IS NULL THEN NULL ELSE coalesce({inner}, {failed}) END)"


def json_structure(kind: Type) -> str:
    """As DuckDB's from_json takes it."""
    if kind.name == "ARRAY":
        return f"[{json_structure(kind.item)}]"
    if kind.name == "STRUCT":
        inside = (f'"{name}":{json_structure(item)}' for name, item in zip(kind.fields, kind.args, strict=True))
        return f"{{{','.join(inside)}}}"
    if kind.name == "MAP":
        return f'"{kind.duck}"'
    return f'"{kind.duck}"'


def _nested(value: Typed, to: Type, safe: bool) -> str:
    source = value.type
    if source.name != to.name or len(source.args) != len(to.args):
        raise mismatch("CAST", source, to)
    if source.name == "ARRAY":
        item = cast(Typed("x_", source.item), to.item, safe=safe)
        return f"list_transform({value.sql}, lambda x_: {item.sql})"
    if source.name == "MAP":
        key, item = (
            cast(Typed("x_.key", source.args[0]), to.args[0]),
            cast(Typed("x_.value", source.args[1]), to.args[1]),
        )
        entries = f"list_transform(map_entries({value.sql}), lambda x_: {{'key': {key.sql}, 'value': {item.sql}}})"
        return f"map_from_entries({entries})"
    members = [
        (name, cast(Typed(f"struct_extract({value.sql}, {text_literal(field)})", kind), target, safe=safe))
        for name, field, kind, target in zip(to.fields, source.fields, source.args, to.args, strict=True)
    ]
    packed = ", ".join(f"{quoted(name)} := {member.sql}" for name, member in members)
    return f"CASE WHEN {value.sql} IS NULL THEN NULL ELSE struct_pack({packed}) END"


def text_of(value: Typed) -> str:
    """CAST AS STRING: what Spark's users read."""
    kind, sql = value.type, value.sql
    match kind.name:
        case "STRING":
            return sql
        case "VOID":
            return "CAST(NULL AS VARCHAR)"
        case "DOUBLE":
            return f"spark_real_text({sql})"
        case "TIMESTAMP" | "TIMESTAMP_NTZ":
            return f"spark_moment_text({sql})"
        case "BINARY":
            return f"decode({sql})"
        case "VARIANT":
            return f"spark_variant_text({sql})" if value.inside is None else "spark_part({}, {})".format(*value.inside)
        case "DECIMAL":
            wide = (
                f"DECIMAL({min(kind.precision + 1, 38)},{kind.scale})"  # DuckDB writes .5 when all digits are fraction
            )
            return f"CAST(CAST({sql} AS {wide}) AS VARCHAR)"
        case "FLOAT":
            return f"spark_real_text(CAST(CAST({sql} AS VARCHAR) AS DOUBLE))"
        case "ARRAY":
            item = text_of(Typed("x_", kind.item))
            return f"('[' || array_to_string(list_transform({sql}, lambda x_: coalesce({item}, 'null')), ', ') || ']')"
        case "MAP":
            key, item = text_of(Typed("x_.key", kind.args[0])), text_of(Typed("x_.value", kind.args[1]))
            each = f"{key} || ' -> ' || coalesce({item}, 'null')"
            return f"('{{' || array_to_string(list_transform(map_entries({sql}), lambda x_: {each}), ', ') || '}}')"
        case "STRUCT":
            parts = (
                f"coalesce({text_of(Typed(f'struct_extract({sql}, {text_literal(name)})', item))}, 'null')"
                for name, item in zip(kind.fields, kind.args, strict=True)
            )
            inside = " || ', ' || ".join(parts)
            return f"CASE WHEN {sql} IS NULL THEN NULL ELSE '{{' || {inside} || '}}' END"
        case "INTERVAL":
            raise unsupported("CAST of an INTERVAL to STRING")
    return f"CAST({sql} AS VARCHAR)"


def as_bigint(value: Typed) -> Typed:
    return implicit(value, BIGINT)
