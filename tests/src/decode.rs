//! A Debezium JSON value → the canonical text of its column's [`Form`]. The rules are those of the
//! format, section 2, under `compat: lossless`: NaN and the infinities arrive as their names.

use crate::form::{self, Form};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use num_bigint::{BigInt, Sign};
use serde_json::Value;

/// Why a value is none of its column's type.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{value} is no {form:?}: {reason}")]
pub struct Problem {
    value: String,
    form: Form,
    reason: &'static str,
}

/// The canonical text; `None`: null.
///
/// # Errors
/// When the value is not what the format prescribes for the type.
pub fn decode(form: &Form, value: &Value) -> Result<Option<String>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    some(form, value).map(Some).map_err(|reason| Problem {
        value: value.to_string(),
        form: form.clone(),
        reason,
    })
}

type Decoded = Result<String, &'static str>;

fn some(form: &Form, value: &Value) -> Decoded {
    match form {
        Form::Bool => boolean(value, "t", "f"),
        Form::BitBool => boolean(value, "1", "0"),
        Form::Integer => integer(value),
        Form::Float => float(value),
        Form::Text => text(value).map(Into::into),
        Form::Bytes => {
            let hex = bytes(value)?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            Ok(format!("\\x{hex}"))
        }
        Form::Bits => bits(value),
        Form::Decimal { scale } => special(value).map_or_else(|| decimal(value, *scale), Ok),
        Form::Number => special(value).map_or_else(|| number(value), Ok),
        Form::Money => decimal(value, 2),
        Form::Date | Form::Moment { .. } => infinite(value).map_or_else(|| integer(value), Ok),
        Form::Clock { .. } | Form::Interval => integer(value),
        Form::ClockZone => text(value)?.strip_suffix('Z').map(Into::into).ok_or("not in UTC"),
        Form::MomentZone { digits } => {
            infinite(value).map_or_else(|| moment_zone(text(value)?, *digits), Ok)
        }
        Form::Point => point(value),
        Form::Array { element, .. } => array(element, value),
    }
}

fn text(value: &Value) -> Result<&str, &'static str> {
    value.as_str().ok_or("no string")
}

fn boolean(value: &Value, yes: &str, no: &str) -> Decoded {
    Ok(if value.as_bool().ok_or("no boolean")? { yes } else { no }.into())
}

fn integer(value: &Value) -> Decoded {
    value.as_i64().map(|number| number.to_string()).ok_or("no integer")
}

fn float(value: &Value) -> Decoded {
    match value.as_f64() {
        Some(_) => Ok(form::float(&value.to_string())),
        None => special(value).ok_or("no number"),
    }
}

/// Numbers that are none, by name.
fn special(value: &Value) -> Option<String> {
    value.as_str().filter(|text| matches!(*text, "NaN" | "Infinity" | "-Infinity")).map(Into::into)
}

/// Times that are none, by name.
fn infinite(value: &Value) -> Option<String> {
    value.as_str().filter(|text| matches!(*text, "infinity" | "-infinity")).map(Into::into)
}

fn bytes(value: &Value) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text(value)?).map_err(|_| "no base64")
}

/// Little-endian; leading zero bits are not told.
fn bits(value: &Value) -> Decoded {
    let digits: String = bytes(value)?.iter().rev().map(|byte| format!("{byte:08b}")).collect();
    Ok(digits.trim_start_matches('0').to_owned())
}

/// Unscaled two's complement, big-endian, in as few bytes as Java uses.
fn decimal(value: &Value, scale: i32) -> Decoded {
    let bytes = bytes(value)?;
    let unscaled = BigInt::from_signed_bytes_be(&bytes);
    if bytes != unscaled.to_signed_bytes_be() {
        return Err("not the shortest two's complement");
    }
    let (sign, digits) = (unscaled.sign(), unscaled.magnitude().to_string());
    let sign = if sign == Sign::Minus { "-" } else { "" };
    let Ok(places) = usize::try_from(scale) else {
        let zeros = if digits == "0" { 0 } else { scale.unsigned_abs() as usize };
        return Ok(format!("{sign}{digits}{}", "0".repeat(zeros)));
    };
    if places == 0 {
        return Ok(format!("{sign}{digits}"));
    }
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    Ok(format!("{sign}{whole}.{fraction}"))
}

/// `VariableScaleDecimal`.
fn number(value: &Value) -> Decoded {
    let scale =
        value["scale"].as_i64().and_then(|scale| i32::try_from(scale).ok()).ok_or("no scale")?;
    let stripped = decimal(&value["value"], scale)?;
    let canonical = form::plain(&stripped);
    // Trailing zeros are stripped.
    if canonical == stripped { Ok(canonical) } else { Err("zeros at its end") }
}

fn point(value: &Value) -> Decoded {
    let (x, y) = (float(&value["x"])?, float(&value["y"])?);
    let wkb = bytes(&value["wkb"])?;
    // Little-endian, a point, two doubles.
    let (Some(1), Some([1, 0, 0, 0]), 21) = (wkb.first(), wkb.get(1..5), wkb.len()) else {
        return Err("no point in WKB");
    };
    let coordinate = |at: usize| wkb[at..at + 8].try_into().map(f64::from_le_bytes);
    let (Ok(first), Ok(second)) = (coordinate(5), coordinate(13)) else { return Err("short WKB") };
    if [&value["x"], &value["y"]].map(Value::as_f64) != [Some(first), Some(second)] {
        return Err("WKB and coordinates differ");
    }
    Ok(format!("{x},{y}"))
}

/// `yyyy-mm-ddThh:mm:ss[.ffffff]Z` → microseconds since 1970.
fn moment_zone(text: &str, digits: usize) -> Decoded {
    let (date, clock) =
        text.strip_suffix('Z').and_then(|text| text.split_once('T')).ok_or("not in UTC")?;
    let (before_christ, date) = date.strip_prefix('-').map_or((false, date), |date| (true, date));
    let mut parts = date.trim_start_matches('+').split('-').map(str::parse::<i64>);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("no date");
    };
    let year = if before_christ { -year } else { year };
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    if fraction.len() != digits {
        return Err("a fraction of another length than the type's");
    }
    let micros: i64 = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<6}").parse().map_err(|_| "no fraction")?
    };
    let mut clock = seconds.split(':').map(str::parse::<i64>);
    let (Some(Ok(hour)), Some(Ok(minute)), Some(Ok(second)), None) =
        (clock.next(), clock.next(), clock.next(), clock.next())
    else {
        return Err("no time");
    };
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Ok((seconds * 1_000_000 + micros).to_string())
}

/// Days since 1970, counted the plain way: years, months, days.
fn days(year: i64, month: i64, day: i64) -> i64 {
    const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_years_before = |year: i64| {
        (year - 1).div_euclid(4) - (year - 1).div_euclid(100) + (year - 1).div_euclid(400)
    };
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let month_index = usize::try_from(month - 1).unwrap_or(0).min(11);
    let in_year = BEFORE_MONTH[month_index] + i64::from(leap && 2 < month) + day - 1;
    (year - 1970) * 365 + leap_years_before(year) - leap_years_before(1970) + in_year
}

fn array(element: &Form, value: &Value) -> Decoded {
    let mut lengths = Vec::new();
    let mut level = value;
    while let Value::Array(items) = level {
        lengths.push(items.len() as u64);
        match items.first() {
            Some(first) => level = first,
            None => break,
        }
    }
    if lengths.is_empty() {
        return Err("no array");
    }
    if lengths == [0] {
        lengths.clear();
    }
    let mut items = Vec::new();
    flatten(element, value, lengths.len(), &mut items)?;
    Ok(form::array_text(&lengths, &items))
}

fn flatten(
    element: &Form,
    value: &Value,
    depth: usize,
    items: &mut Vec<Option<String>>,
) -> Result<(), &'static str> {
    match value {
        Value::Array(values) if 0 < depth => {
            values.iter().try_for_each(|value| flatten(element, value, depth - 1, items))
        }
        Value::Array(values) if values.is_empty() => Ok(()),
        Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_) => {
            if 0 < depth {
                return Err("a ragged array");
            }
            items.push(if value.is_null() { None } else { Some(some(element, value)?) });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(form: &Form, value: &Value, canonical: &str) {
        assert_eq!(decode(form, value).unwrap().as_deref(), Some(canonical));
    }

    #[test]
    fn the_examples_of_the_format_decode() {
        check(&Form::Decimal { scale: 2 }, &json!("E34="), "49.90");
        check(&Form::Number, &json!({"scale": 2, "value": "MDk="}), "123.45");
        check(&Form::Money, &json!("BNI="), "12.34");
        check(&Form::Bytes, &json!("AQL/"), "\\x0102ff");
        check(&Form::Bits, &json!("FQ=="), "10101");
        check(&Form::ClockZone, &json!("02:20:30.123456Z"), "02:20:30.123456");
        let zone = Form::MomentZone { digits: 6 };
        check(&zone, &json!("2024-03-05T02:20:30.123456Z"), "1709605230123456");
        check(&zone, &json!("-infinity"), "-infinity");
        let point =
            json!({"x": 1.0, "y": 2.0, "wkb": "AQEAAAAAAAAAAADwPwAAAAAAAABA", "srid": null});
        check(&Form::Point, &point, "1.0,2.0");
        check(&Form::Float, &json!("NaN"), "NaN");
        check(&Form::Decimal { scale: -2 }, &json!("AQ=="), "100");
        check(&Form::Decimal { scale: 3 }, &json!("/w=="), "-0.001");
    }

    #[test]
    fn arrays_keep_their_shape() {
        let form = Form::Array { element: Box::new(Form::Integer), composite: false };
        check(&form, &json!([1, 2, null]), "[3][Some(\"1\"), Some(\"2\"), None]");
        check(&form, &json!([]), "[][]");
        check(
            &form,
            &json!([[1, 2], [3, 4]]),
            &form.canonical(r#"{"d":[2,2],"i":["1","2","3","4"]}"#),
        );
        assert!(decode(&form, &json!([[1, 2], 3])).is_err());
    }

    #[test]
    fn what_the_format_does_not_allow_is_named() {
        for (form, value) in [
            (Form::Integer, json!("1")),
            (Form::Bool, json!(1)),
            (Form::Decimal { scale: 2 }, json!("ABN+")),
            (Form::Number, json!({"scale": 2, "value": "ZA=="})),
            (Form::MomentZone { digits: 6 }, json!("2024-03-05T02:20:30Z")),
            (Form::Date, json!("2024-03-05")),
            (Form::Bits, json!("*")),
        ] {
            assert!(decode(&form, &value).is_err(), "{form:?} {value}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2024, 3, 5), 19_787);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(1969, 12, 31), -1);
        assert_eq!(days(0, 3, 1), -719_468);
    }
}
