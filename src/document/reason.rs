//! Serde's message of a failed `Deserialize`, without what is stored. Errors are logged, and
//! `invalid type: string "hunter2", expected i64` would log a value.

/// What serde calls a value that it did not expect (`serde::de::Unexpected`).
const KINDS: [&str; 17] = [
    "boolean",
    "integer",
    "floating point",
    "character",
    "string",
    "byte array",
    "unit value",
    "Option value",
    "newtype struct",
    "sequence",
    "map",
    "enum",
    "unit variant",
    "newtype variant",
    "tuple variant",
    "struct variant",
    "null",
];

/// Returns what a message says of the type, and leaves out what it says of the value. Another
/// message is the application's own and may hold anything, so it is left out as a whole.
pub(crate) fn without_value(message: &str) -> String {
    const FALLBACK_MESSAGE: &str = "its `Deserialize` refused the value";
    const KEPT_PREFIXES: [&str; 4] = [
        "missing field `",
        "duplicate field `",
        "invalid length ",
        "data did not match any variant of untagged enum ",
    ];
    const CUT_PREFIXES: [&str; 4] = [
        "invalid type",
        "invalid value",
        "unknown variant",
        "unknown field",
    ];
    if KEPT_PREFIXES.iter().any(|start| message.starts_with(start)) {
        return message.to_owned();
    }
    let cut = CUT_PREFIXES
        .iter()
        .find(|start| message.starts_with(*start));
    // The last one: the value may contain the same words. It is the only one in "unknown field `x`, there are
    // no fields".
    let split = message.rsplit_once(", expected ");
    let split = split.filter(|(_, expected)| !expected.contains(", there are no "));
    let (Some(start), Some((value, expected))) = (cut, split) else {
        return FALLBACK_MESSAGE.to_owned();
    };
    let value = value.strip_prefix(start).unwrap_or_default();
    let value = value.strip_prefix(": ").unwrap_or_default();
    let is_of = |kind: &&&str| {
        let rest = value.strip_prefix(**kind);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '`', '"']))
    };
    match KINDS.iter().find(is_of) {
        Some(kind) => format!("{start}: {kind}, expected {expected}"),
        None => format!("{start}, expected {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("missing field `b`", "missing field `b`")]
    #[case("duplicate field `b`", "duplicate field `b`")]
    #[case(
        "invalid length 3, expected a tuple of size 2",
        "invalid length 3, expected a tuple of size 2"
    )]
    #[case(
        "invalid type: string \"hunter2\", expected i64",
        "invalid type: string, expected i64"
    )]
    #[case(
        "invalid type: string \"x, expected hunter2\", expected i64",
        "invalid type: string, expected i64"
    )]
    #[case(
        "invalid value: integer `-4242`, expected u8",
        "invalid value: integer, expected u8"
    )]
    #[case(
        "invalid type: floating point `0.4242`, expected a string",
        "invalid type: floating point, expected a string"
    )]
    #[case(
        "invalid type: map, expected a sequence",
        "invalid type: map, expected a sequence"
    )]
    #[case(
        "invalid type: hunter2, expected a sequence",
        "invalid type, expected a sequence"
    )]
    #[case(
        "unknown variant `hunter2`, expected one of `A`, `B`",
        "unknown variant, expected one of `A`, `B`"
    )]
    #[case("unknown field `hunter2`, expected `a`", "unknown field, expected `a`")]
    #[case(
        "data did not match any variant of untagged enum Either",
        "data did not match any variant of untagged enum Either"
    )]
    #[case("hunter2 is not a name", "its `Deserialize` refused the value")]
    #[case(
        "unknown variant `hunter2`, there are no variants",
        "its `Deserialize` refused the value"
    )]
    #[case(
        "unknown variant `x, expected hunter2`, there are no variants",
        "its `Deserialize` refused the value"
    )]
    #[case(
        "unknown field `x, expected hunter2`, there are no fields",
        "its `Deserialize` refused the value"
    )]
    fn message_keeps_the_type_and_loses_the_value(#[case] message: &str, #[case] expected: &str) {
        assert_eq!(without_value(message), expected, "{message}");
    }
}
