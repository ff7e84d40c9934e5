//! What is to be carried: from a preset, a file and flags; later ones win, and everything wrong is told at once.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::amount::{hundredths, read, read_hundredths};
use super::figures::{Figures, ROWS, Source};
use crate::config::meant;

/// What is kept in reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spare {
    /// Nothing.
    None,
    /// One server more than is needed in each region, and one broker.
    Server,
    /// Any one region may be lost, and the others carry what it did.
    Region,
}

impl Spare {
    fn named(text: &str) -> Option<Self> {
        [("none", Self::None), ("server", Self::Server), ("region", Self::Region)]
            .into_iter()
            .find_map(|(name, spare)| (name == text).then_some(spare))
    }

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Server => "server",
            Self::Region => "region",
        }
    }
}

/// A number of the target.
pub struct Number {
    /// Its key below `[target]`; as a flag with `-` for `_`.
    pub key: &'static str,
    /// What it is.
    pub meaning: &'static str,
    range: (u64, u64),
    default: Option<u64>,
    decimals: bool,
}

const fn number(key: &'static str, meaning: &'static str, range: (u64, u64), default: Option<u64>) -> Number {
    Number { key, meaning, range, default, decimals: false }
}

const COUNT_MAX: u64 = 1_000_000_000_000;

/// All of them.
pub const NUMBERS: &[Number] = &[
    number("connections", "connections at once", (1, COUNT_MAX), None),
    number("messages_per_day", "messages a day", (1, 1_000_000_000_000_000), None),
    number("peak", "messages a second at the peak", (1, COUNT_MAX), Some(0)),
    Number {
        key: "peak_factor",
        meaning: "peak by average, where no peak is given",
        range: (100, 100_000),
        default: Some(300),
        decimals: true,
    },
    number("message_bytes", "bytes of a message", (1, 1_000_000_000), Some(1_000)),
    number("retention_days", "days that the log keeps", (1, 36_500), Some(7)),
    number("archive_days", "days that the archive keeps", (1, 36_500), Some(365)),
    number("partitions", "partitions at least", (1, 1_000_000), Some(16)),
    number("replication", "copies of a record in the log", (1, 10), Some(3)),
];

/// What is to be carried.
#[derive(Debug)]
pub struct Target {
    numbers: BTreeMap<&'static str, u64>,
    spare: Spare,
    regions: Vec<(String, u64)>,
}

impl Target {
    fn number(&self, key: &str) -> u128 {
        self.numbers.get(key).copied().unwrap_or_default().into()
    }

    /// At once.
    pub fn connections(&self) -> u128 {
        self.number("connections")
    }

    /// All of them.
    pub fn messages_per_day(&self) -> u128 {
        self.number("messages_per_day")
    }

    /// A second, if it is given.
    pub fn peak(&self) -> Option<u128> {
        Some(self.number("peak")).filter(|peak| *peak > 0)
    }

    /// In hundredths.
    pub fn peak_factor(&self) -> u128 {
        self.number("peak_factor")
    }

    /// Of one.
    pub fn message_bytes(&self) -> u128 {
        self.number("message_bytes")
    }

    /// Of the log.
    pub fn retention_days(&self) -> u128 {
        self.number("retention_days")
    }

    /// Of the archive.
    pub fn archive_days(&self) -> u128 {
        self.number("archive_days")
    }

    /// At least.
    pub fn partitions(&self) -> u128 {
        self.number("partitions")
    }

    /// Copies.
    pub fn replication(&self) -> u128 {
        self.number("replication")
    }

    /// In reserve.
    pub fn spare(&self) -> Spare {
        self.spare
    }

    /// Each with its share in hundredths of a per cent.
    pub fn regions(&self) -> impl Iterator<Item = (&str, u128)> {
        self.regions.iter().map(|(name, share)| (name.as_str(), u128::from(*share)))
    }

    /// The share of the largest region.
    pub fn largest(&self) -> u128 {
        self.largest_other("")
    }

    /// The share of the largest region but this one.
    pub fn largest_other(&self, region: &str) -> u128 {
        self.regions().filter(|(name, _)| *name != region).map(|(_, share)| share).max().unwrap_or_default()
    }
}

/// A target that is not checked yet.
pub struct Draft {
    numbers: BTreeMap<&'static str, u64>,
    spare: Spare,
    regions: Vec<(String, u64)>,
    ours: Figures,
    problems: Vec<String>,
}

impl Draft {
    /// With the defaults.
    pub fn new() -> Self {
        let numbers = NUMBERS.iter().filter_map(|number| Some((number.key, number.default?))).collect();
        Self { numbers, spare: Spare::Server, regions: Vec::new(), ours: Figures::ours(), problems: Vec::new() }
    }

    /// The inputs of the original design.
    pub fn like_original(&mut self) {
        self.numbers.extend([
            ("connections", 500_000_000),
            ("messages_per_day", 100_000_000_000),
            ("peak", 3_500_000),
            ("message_bytes", 1_000),
            ("retention_days", 7),
            ("archive_days", 7),
            ("partitions", 100),
            ("replication", 3),
        ]);
        self.spare = Spare::None;
        self.regions = [("region-1", 3_000), ("region-2", 2_000), ("region-3", 2_500), ("region-4", 2_500)]
            .map(|(name, share)| (name.to_owned(), share))
            .to_vec();
    }

    /// Reads a file: `[target]`, `[regions]`, and sections of figures.
    pub fn file(&mut self, name: &str, text: &str) {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return self.problems.push(format!("{name} is not TOML: {}", error.to_string().trim_end())),
        };
        for (section, content) in &table {
            let Some(content) = content.as_table() else {
                self.problems.push(format!("{name}: {section} stands outside a section; [target] is the first"));
                continue;
            };
            if section == "regions" {
                self.regions.clear();
            }
            for (key, value) in content {
                let text = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let origin = format!("{name}, {section}.{key}");
                match section.as_str() {
                    "target" if key == "spare" => self.spare_named(&origin, &text),
                    "target" => self.number(&origin, key, &text),
                    "regions" => self.region(&origin, key, &text),
                    _ => self.figure(&origin, &format!("{section}.{key}"), &text),
                }
            }
        }
    }

    /// A number of the target.
    pub fn number(&mut self, origin: &str, key: &str, text: &str) {
        let Some(number) = NUMBERS.iter().find(|number| number.key == key) else {
            let near = meant(key, NUMBERS.iter().map(|number| number.key).chain(["spare"]));
            return self.unknown(origin, near);
        };
        let read = if number.decimals { read_hundredths(text) } else { read(text) };
        let Some(value) = self.within(origin, read, number.range, number.decimals) else { return };
        // Whoever gives a factor after a peak means it instead.
        if key == "peak_factor" {
            self.numbers.insert("peak", 0);
        }
        self.numbers.insert(number.key, value);
    }

    fn within(
        &mut self,
        origin: &str,
        read: Result<u64, String>,
        (min, max): (u64, u64),
        decimals: bool,
    ) -> Option<u64> {
        let show = |value: u64| if decimals { hundredths(value.into()) } else { super::amount::grouped(value.into()) };
        match read {
            Ok(value) if value < min || value > max => {
                let (value, min, max) = (show(value), show(min), show(max));
                self.problems.push(format!("{origin}: {value} is not from {min} to {max}"));
                None
            }
            Ok(value) => Some(value),
            Err(wrong) => {
                self.problems.push(format!("{origin}: {wrong}"));
                None
            }
        }
    }

    fn unknown(&mut self, origin: &str, near: Option<&str>) {
        let remedy = near.map_or_else(
            || "`heddle capacity --like original` shows all".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        self.problems.push(format!("{origin}: there is no such key; {remedy}"));
    }

    fn spare_named(&mut self, origin: &str, text: &str) {
        match Spare::named(text) {
            Some(spare) => self.spare = spare,
            None => self.problems.push(format!("{origin}: {text:?} is not \"none\", \"server\" or \"region\"")),
        }
    }

    /// What is kept in reserve.
    pub fn spare(&mut self, spare: Spare) {
        self.spare = spare;
    }

    /// Forgets the regions of file and preset.
    pub fn no_regions(&mut self) {
        self.regions.clear();
    }

    /// One region more.
    pub fn region(&mut self, origin: &str, name: &str, share: &str) {
        let read = read_hundredths(share.trim().trim_end_matches('%'));
        let Some(share) = self.within(origin, read, (1, 10_000), true) else { return };
        if name.is_empty() || self.regions.iter().any(|(known, _)| known == name) {
            let wrong = if name.is_empty() { "the region has no name" } else { "the region is there twice" };
            return self.problems.push(format!("{origin}: {wrong}"));
        }
        self.regions.push((name.to_owned(), share));
    }

    /// A figure of ours.
    pub fn figure(&mut self, origin: &str, key: &str, text: &str) {
        let Some(row) = ROWS.iter().find(|row| row.key == key) else {
            let near = meant(key, ROWS.iter().map(|row| row.key));
            return self.unknown(origin, near);
        };
        let Some(value) = self.within(origin, read(text), row.range, false) else { return };
        if let Some(figure) = self.ours.named(key) {
            (figure.value, figure.source, figure.says) = (value, Source::Given, "");
        }
    }

    /// Something else that is wrong.
    pub fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// The target, and our figures.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish(mut self) -> Result<(Target, Figures), Vec<String>> {
        for (key, flag) in [("connections", "--connections 2M"), ("messages_per_day", "--messages-per-day 50M")] {
            let wrong =
                self.problems.iter().any(|problem| problem.contains(key) || problem.contains(&key.replace('_', "-")));
            if !self.numbers.contains_key(key) && !wrong {
                self.problems
                    .push(format!("{key} is not said: {flag}, or in a file with --target, or --like original"));
            }
        }
        let sum: u64 = self.regions.iter().map(|(_, share)| share).sum();
        // A region that was refused is missing in the sum for a reason that was told.
        let told = self.problems.iter().any(|problem| problem.contains("region"));
        if !self.regions.is_empty() && sum != 10_000 && !told {
            let each: Vec<String> =
                self.regions.iter().map(|(name, share)| format!("{name} {} %", hundredths((*share).into()))).collect();
            let sum = hundredths(sum.into());
            self.problems.push(format!("the regions sum to {sum} %, not 100 %: {}", each.join(", ")));
        }
        if self.regions.is_empty() {
            self.regions.push(("everywhere".to_owned(), 10_000));
        }
        if self.spare == Spare::Region && self.regions.len() < 2 {
            self.problems.push("spare region: there is one region only; name more with --region".to_owned());
        }
        let Self { numbers, spare, regions, ours, problems } = self;
        if problems.is_empty() { Ok((Target { numbers, spare, regions }, ours)) } else { Err(problems) }
    }
}
