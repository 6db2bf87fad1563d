//! Amounts of memory as people write and read them.

use super::Refusal;

const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

/// Reads `512MiB`, `1.5 GB`, `4096`.
pub fn parse_bytes(text: &str) -> Result<u64, Refusal> {
    let refuse = || {
        Refusal::new(
            format!("is {text:?}, which is no amount of memory"),
            "write a number and a unit, say \"512MiB\" or \"2GB\"",
        )
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let (_, scale) = UNITS
        .iter()
        .find(|(u, _)| u.eq_ignore_ascii_case(unit))
        .ok_or_else(refuse)?;
    let digits = digits.trim_end();
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = digits.parse().ok().filter(|_| plain).ok_or_else(refuse)?;
    let bytes = number * *scale as f64;
    // Past 2^53 a float no longer tells bytes apart, and no machine has as many.
    if !(1.0..9e15).contains(&bytes) {
        return Err(refuse());
    }
    Ok(bytes as u64)
}

/// Three digits and a binary unit: `1.50 GiB`.
pub fn bytes_text(bytes: u64) -> String {
    let Some((unit, scale)) = UNITS[..4].iter().find(|(_, scale)| bytes >= *scale) else {
        return format!("{bytes} B");
    };
    let value = bytes as f64 / *scale as f64;
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5 GiB", 3 << 29),
            ("2gb", 2_000_000_000),
            ("4096", 4096),
            ("7B", 7),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1MiB",
            "1e3",
            "nan",
            "inf",
            "0",
            "0.1B",
            "12 parsecs",
            "1.2.3KB",
            "99999TiB",
            "1²",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_shown() {
        assert_eq!(bytes_text(0), "0 B");
        assert_eq!(bytes_text(1536), "1.50 KiB");
        assert_eq!(bytes_text(64 << 30), "64.0 GiB");
        assert_eq!(bytes_text(700 << 20), "700 MiB");
    }
}
