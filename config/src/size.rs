//! Byte sizes: `64MiB`, `1GB`, `4096`. Values only.
//!
//! `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024; `KB`, `MB`, `GB`, `TB` powers of 1000 (as Litestream 0.5 reads its
//! `part-size`); `B` or nothing is bytes. Letter case does not matter. `K` and `M` alone are refused: they mean two
//! things.

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write something like 512MiB or 1GiB")]
pub struct BadSize(pub String);

/// Reads a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, BadSize> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let scale: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ if number.is_empty() => return Err(BadSize("a number is expected first".into())),
        _ => return Err(BadSize(format!("unknown unit {unit:?}"))),
    };
    if number.is_empty() {
        return Err(BadSize("a number is expected first".into()));
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| BadSize("it is larger than 16 EiB".into()))
}

/// The size in the largest unit it is whole in: `1GiB`, `5MB`, `4096`. [`parse_size`] reads it.
pub(crate) fn format_size(bytes: u64) -> String {
    let units: [(&str, u64); 8] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("KB", 1_000),
    ];
    let whole = units.into_iter().find(|(_, scale)| bytes > 0 && bytes.is_multiple_of(*scale));
    whole.map_or_else(|| bytes.to_string(), |(unit, scale)| format!("{}{unit}", bytes / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_in_a_unit_they_are_whole_in() {
        for (bytes, text) in [
            (0, "0"),
            (4097, "4097"),
            (4096, "4KiB"),
            (5_000_000, "5MB"),
            (1 << 30, "1GiB"),
            (3 << 40, "3TiB"),
        ] {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
    }

    #[test]
    fn sizes_read_with_binary_and_decimal_units() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("10B", 10),
            ("5MB", 5_000_000),
            ("5 MiB", 5 << 20),
            ("1gib", 1 << 30),
            ("2TiB", 2 << 40),
        ];
        for (text, want) in cases {
            assert_eq!(parse_size(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_bad_size_says_why() {
        let cases = [
            ("", "a number is expected first"),
            ("GiB", "a number is expected first"),
            ("-1", "a number is expected first"),
            ("5M", "unknown unit \"M\""),
            ("1.5GiB", "unknown unit \".5GiB\""),
            ("99999999999999999999", "it is larger than 16 EiB"),
            ("99999999TiB", "it is larger than 16 EiB"),
        ];
        for (text, want) in cases {
            let want = format!("{want}; write something like 512MiB or 1GiB");
            assert_eq!(parse_size(text).unwrap_err().to_string(), want, "{text:?}");
        }
    }
}
