//! Numbers with units: how they are read and how they are shown. Sizes are decimal, as disks and networks are sold.

/// What a number is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Things a second.
    PerSecond,
    /// Hundredths.
    Percent,
    /// Seconds.
    Seconds,
    /// Dollars a month.
    Dollars,
    /// Hundredths of one.
    Hundredths,
}

impl Unit {
    /// As programs read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes/s",
            Self::PerSecond => "/s",
            Self::Percent => "%",
            Self::Seconds => "s",
            Self::Dollars => "dollars/month",
            Self::Hundredths => "1/100",
        }
    }

    /// As people read it.
    pub fn show(self, value: u128) -> String {
        match self {
            Self::Count => grouped(value),
            Self::Bytes => size(value),
            Self::BytesPerSecond => format!("{}/s", size(value)),
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Percent => format!("{value} %"),
            Self::Seconds => format!("{} s", grouped(value)),
            Self::Dollars => format!("${}", grouped(value)),
            Self::Hundredths => hundredths(value),
        }
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3050` as `30.5`.
pub fn hundredths(value: u128) -> String {
    let text = format!("{}.{:02}", grouped(value / 100), value % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// In the largest decimal unit of which there is at least one, to a tenth, rounded up: nothing looks smaller than it is.
fn size(bytes: u128) -> String {
    const UNITS: [(&str, u128); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = (bytes * 10).div_ceil(*unit);
            let tenth = if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
            format!("{}{tenth} {name}", grouped(tenths / 10))
        }
        None => format!("{bytes} B"),
    }
}

/// Reads `500_000_000`, `500M`, `3.5 M`, `500 KB`, `12.5 KiB`. The error is a clause.
pub fn read(text: &str) -> Result<u64, String> {
    scaled(text, 0)
}

/// Reads a number with at most two decimals as hundredths: `33.33`, `3`.
pub fn read_hundredths(text: &str) -> Result<u64, String> {
    scaled(text, 2)
}

const SCALES: &[(&str, u128)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("B", 1),
];

fn scaled(text: &str, decimals: u32) -> Result<u64, String> {
    let wrong = || match decimals {
        0 => format!("{text:?} is not a whole number like 500_000, 500M or \"12.5 KiB\""),
        _ => format!("{text:?} is not a number with at most two decimals like 30 or 33.33"),
    };
    let trimmed = text.trim();
    let found = SCALES.iter().find_map(|(name, scale)| Some((trimmed.strip_suffix(name)?, *scale)));
    let (number, scale) = if decimals == 0 { found.unwrap_or((trimmed, 1)) } else { (trimmed, 1) };
    let number = number.trim().replace(['_', ','], "");
    let (whole, part) = number.split_once('.').unwrap_or((&number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 9 || whole.len() > 18 {
        return Err(wrong());
    }
    let tens = 10_u128.pow(u32::try_from(part.len()).map_err(|_| wrong())?);
    let all: u128 = format!("{whole}{part}").parse().map_err(|_| wrong())?;
    let value = all * scale * 10_u128.pow(decimals);
    if !value.is_multiple_of(tens) {
        return Err(wrong());
    }
    u64::try_from(value / tens).map_err(|_| wrong())
}
