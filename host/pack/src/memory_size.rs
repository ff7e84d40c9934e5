/// "16 MiB" to bytes; the unit is B, KiB, MiB or GiB.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_binary_and_named() {
        assert_eq!(parse("16 MiB"), Some(16 << 20));
        assert_eq!(parse("512KiB"), Some(512 << 10));
        assert_eq!(parse("16"), None);
        assert_eq!(parse("16 MB"), None);
        assert_eq!(parse("99999999999999999999 B"), None);
    }
}
