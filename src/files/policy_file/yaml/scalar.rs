//! What a scalar is: by its tag, its quotes, or the words of YAML 1.1.

use saphyr_parser::{ScalarStyle, Tag};

use super::{InvalidPolicy, MERGE_KEY, Value, in_quotes};

/// In quotes, or with another tag than its own, `<<` is a name like others.
pub(super) fn is_merge_key(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
    let tagged = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "merge");
    text == MERGE_KEY && (tagged || tag.is_none() && style == ScalarStyle::Plain)
}

/// What a scalar is. A tag counts before quotes do; with one that is not YAML's own a scalar is text.
pub(super) fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Value, InvalidPolicy> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { plain(text) } else { Value::Text(text) });
    };
    let refused = |what: &str| {
        let handle = if tag.is_yaml_core_schema() { "!!" } else { &tag.handle };
        Err(InvalidPolicy::at(line, format!("{} {what}", in_quotes(&format!("{handle}{}", tag.suffix)))))
    };
    match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
        (true, "bool" | "int" | "float" | "null") => match (plain(text), tag.suffix.as_str()) {
            (value @ Value::Bool(_), "bool") | (value @ Value::Number(_), "int" | "float") => Ok(value),
            (value @ Value::Null, "null") => Ok(value),
            _ => refused("is the tag of something else"),
        },
        (true, "binary" | "timestamp") => refused("is a tag that no policy needs; write the text itself"),
        // By YAML's rules it makes text of all that follows; for kube-apiserver it takes away the quotes.
        (false, "!") if tag.handle.is_empty() => refused("is a tag that can be read in two ways; write !!str"),
        _ => Ok(Value::Text(text)),
    }
}

/// What a scalar without quotes is in YAML 1.1.
pub(super) fn plain(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ if is_number(&text) => Value::Number(text),
        _ => Value::Text(text),
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.replace('_', "").to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            return !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        }
    }
    let special = [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&unsigned);
    special || is_decimal(&digits)
}

/// Digits with a point among them or not, and an exponent behind them or not.
fn is_decimal(text: &str) -> bool {
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_is_empty = whole.is_empty() && fraction.is_empty();
    let some = !mantissa_is_empty && !exponent.is_empty();
    some && are_digits(whole) && are_digits(fraction) && are_digits(exponent)
}
