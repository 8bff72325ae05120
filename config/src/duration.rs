//! Durations as Go writes them: `1h30m`, `500ms`, `1.5s`. Values only.
//!
//! The grammar is Go's `time.ParseDuration` without the sign: one or more of *number unit*, the units `ns`, `us`
//! (`µs`), `ms`, `s`, `m`, `h`; a lone `0`. No days, no bare numbers: Litestream takes `retention: 24` as 24
//! nanoseconds, so that is an error here and says what was meant.

use std::time::Duration;

/// Why a text is no duration, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}{}", .fix.as_ref().map(|f| format!("; {f}")).unwrap_or_default())]
pub struct BadDuration {
    pub cause: String,
    pub fix: Option<String>,
}

/// Reads a Go duration. Zero is fine; negative, unit-less, and more than about 292 years (Go's own limit) are not.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return bad("it is empty", "write something like 10s or 24h");
    }
    if let Some(rest) = text.strip_prefix('-') {
        return match parse_duration(rest) {
            Ok(_) => bad("it is negative", "write 0 to turn it off where that is possible"),
            Err(e) => Err(e),
        };
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total: u128 = 0;
    loop {
        let (number, after) =
            rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
        let (unit, after) =
            after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return bad(format!("a number is expected at {rest:?}"), "write something like 10s or 24h");
        }
        if unit.is_empty() {
            return bad(
                "it has no unit (Litestream would take it as nanoseconds)",
                format!("write {number}s for seconds"),
            );
        }
        let scale = nanoseconds(unit).map_err(|hint| unknown_unit(number, unit, hint))?;
        total = times(number, scale)
            .and_then(|n| total.checked_add(n))
            .filter(|n| *n <= LONGEST)
            .ok_or_else(too_long)?;
        rest = after;
        if rest.is_empty() {
            let nanos = u64::try_from(total).map_err(|_| too_long())?;
            return Ok(Duration::from_nanos(nanos));
        }
    }
}

/// The duration in the largest units it is whole in: `24h`, `1h30m`, `1m30s`, `1s500ms`, `0s`. [`parse_duration`] reads it.
pub(crate) fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut out = String::new();
    for (unit, nanos) in [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if rest >= nanos {
            out.push_str(&format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

/// `i64::MAX` nanoseconds: the longest duration Go can say.
const LONGEST: u128 = i64::MAX as u128;

/// Nanoseconds in one `unit`, or, for a unit people write that Go does not know, how many hours or which unit it is.
fn nanoseconds(unit: &str) -> Result<u128, Option<Meant>> {
    match unit {
        "ns" => Ok(1),
        "us" | "µs" | "μs" => Ok(1_000),
        "ms" => Ok(1_000_000),
        "s" => Ok(1_000_000_000),
        "m" => Ok(60_000_000_000),
        "h" => Ok(3_600_000_000_000),
        _ => Err(match unit.trim().to_ascii_lowercase().as_str() {
            "d" | "day" | "days" => Some(Meant::Hours(24)),
            "w" | "week" | "weeks" => Some(Meant::Hours(168)),
            "h" | "hr" | "hrs" | "hour" | "hours" => Some(Meant::Unit("h")),
            "min" | "mins" | "minute" | "minutes" => Some(Meant::Unit("m")),
            "s" | "sec" | "secs" | "second" | "seconds" => Some(Meant::Unit("s")),
            _ => None,
        }),
    }
}

/// What someone meant who wrote a unit Go does not know.
enum Meant {
    Hours(u32),
    Unit(&'static str),
}

fn unknown_unit(number: &str, unit: &str, meant: Option<Meant>) -> BadDuration {
    let fix = match (meant, number.parse::<u32>()) {
        (Some(Meant::Hours(h)), Ok(n)) => format!("write {}h", u64::from(n) * u64::from(h)),
        (Some(Meant::Hours(h)), Err(_)) => format!("write it in hours (one is {h}h)"),
        (Some(Meant::Unit(u)), _) => format!("write {number}{u}"),
        (None, _) => "the units are ns, us, ms, s, m, h".into(),
    };
    BadDuration { cause: format!("unknown unit {unit:?}"), fix: Some(fix) }
}

/// `number` (digits with at most one point) times `scale`, rounded down to whole nanoseconds.
fn times(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Nothing below 10^-15 of an hour is a nanosecond; the cut keeps the product inside 128 bits.
    let fraction = &fraction[..fraction.len().min(15)];
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let tens = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(scale)?.checked_add(part * scale / tens)
}

fn too_long() -> BadDuration {
    BadDuration { cause: "it is longer than 292 years".into(), fix: None }
}

fn bad<T>(cause: impl Into<String>, fix: impl Into<String>) -> Result<T, BadDuration> {
    Err(BadDuration { cause: cause.into(), fix: Some(fix.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let cases: &[(&str, u64)] = &[
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("+5s", 5_000_000_000),
            ("24h", 86_400_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("500ms", 500_000_000),
            ("10ns", 10),
            ("3us2ns", 3_002),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("0.0000000019s", 1),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(*nanos)), "{text}");
        }
    }

    #[test]
    fn durations_print_in_the_largest_units() {
        for (millis, text) in
            [(0, "0s"), (1_000, "1s"), (86_400_000, "24h"), (5_400_000, "1h30m"), (90_500, "1m30s500ms")]
        {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_bad_duration_says_why_and_what_to_write() {
        let cases = [
            ("", "it is empty; write something like 10s or 24h"),
            ("10", "it has no unit (Litestream would take it as nanoseconds); write 10s for seconds"),
            ("1.5", "it has no unit (Litestream would take it as nanoseconds); write 1.5s for seconds"),
            ("1h30", "it has no unit (Litestream would take it as nanoseconds); write 30s for seconds"),
            ("7d", "unknown unit \"d\"; write 168h"),
            ("2w", "unknown unit \"w\"; write 336h"),
            ("1.5d", "unknown unit \"d\"; write it in hours (one is 24h)"),
            ("10 s", "unknown unit \" s\"; write 10s"),
            ("5min", "unknown unit \"min\"; write 5m"),
            ("3 hours", "unknown unit \" hours\"; write 3h"),
            ("5x", "unknown unit \"x\"; the units are ns, us, ms, s, m, h"),
            ("-5s", "it is negative; write 0 to turn it off where that is possible"),
            ("-x", "a number is expected at \"x\"; write something like 10s or 24h"),
            ("soon", "a number is expected at \"soon\"; write something like 10s or 24h"),
            ("1.2.3s", "a number is expected at \"1.2.3s\"; write something like 10s or 24h"),
            (".s", "a number is expected at \".s\"; write something like 10s or 24h"),
            ("2562047h47m16.854775808s", "it is longer than 292 years"),
            ("99999999999999999999999999999999999999999999h", "it is longer than 292 years"),
        ];
        for (text, want) in cases {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), want, "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::seed::seeded())]

        #[test]
        fn any_text_gives_an_answer_without_a_panic(text in "[0-9.smhdnuµ+ -]{0,40}|.*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn what_is_printed_is_read_again(nanos in prop_oneof![0..=i64::MAX as u64, (0_u64..10_000).prop_map(|s| s * 1_000_000_000)]) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn what_is_written_in_parts_is_their_sum(h in 0_u64..1000, m in 0_u64..600, ms in 0_u64..100_000) {
            let read = parse_duration(&format!("{h}h{m}m{ms}ms"));
            prop_assert_eq!(read, Ok(Duration::from_millis(h * 3_600_000 + m * 60_000 + ms)));
        }
    }
}
