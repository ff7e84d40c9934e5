//! A plan as text and as JSON: the results, the formulas with their numbers, the figures with their sources.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::amount::{Unit, hundredths};
use super::figures::{Figure, Figures, MACHINE, ROWS};
use super::formulas::{Step, work};
use super::target::{NUMBERS, Target};

/// Both columns.
pub struct Plan {
    target: Target,
    original: Figures,
    ours: Figures,
}

/// What stands at the top, in this order.
const SUMMARY: &[&str] = &[
    "servers in all",
    "servers",
    "memory of all connections",
    "messages a second, average",
    "messages a second, peak",
    "partitions",
    "messages a partition, at the peak",
    "storage of the log, before replication",
    "storage of the log, replicated",
    "brokers",
    "storage of the archive, before standbys",
    "Postgres servers (an estimate)",
    "Redis servers (an estimate)",
    "cost of the servers",
    "cost in all",
];

const NOTES: &[&str] = &[
    "Sizes are decimal: 1 KB is 1,000 bytes. Costs are a month's.",
    "What the original design does not say is reckoned with our figures in its column too.",
    "More cores, servers and partitions are taken to do as many times as much: that was not measured.",
    "A message counts as 1:1. In a group, a write to the socket of each member who is online takes 4.6 to 7.2 µs of a core, measured.",
    "The archive may follow the log by hours, so it is sized by the average; everything else by the peak.",
    "Brokers, Postgres and Redis are reckoned for all regions together; apart, each region rounds up.",
];

impl Plan {
    /// For this target.
    pub fn new(target: Target, original: Figures, ours: Figures) -> Self {
        Self { target, original, ours }
    }

    /// The steps of both columns, which are the same steps.
    fn steps(&self) -> Vec<(Step, Step)> {
        work(&self.target, &self.original).into_iter().zip(work(&self.target, &self.ours)).collect()
    }

    /// Each number of the target as it is shown.
    fn asked(&self) -> Vec<(&'static str, String)> {
        let t = &self.target;
        let peak = t.peak().map_or_else(
            || format!("{} times the average", hundredths(t.peak_factor())),
            |peak| Unit::PerSecond.show(peak),
        );
        let shown = |key: &str| match key {
            "connections" => Some(Unit::Count.show(t.connections())),
            "messages_per_day" => Some(Unit::Count.show(t.messages_per_day())),
            "peak" => Some(peak.clone()),
            "message_bytes" => Some(Unit::Bytes.show(t.message_bytes())),
            "retention_days" => Some(t.retention_days().to_string()),
            "archive_days" => Some(t.archive_days().to_string()),
            "partitions" => Some(Unit::Count.show(t.partitions())),
            "replication" => Some(t.replication().to_string()),
            _ => None,
        };
        let mut lines: Vec<_> =
            NUMBERS.iter().filter_map(|number| Some((number.meaning, shown(number.key)?))).collect();
        lines.push(("spare", t.spare().word().to_owned()));
        let regions: Vec<String> = t.regions().map(|(name, share)| format!("{name} {} %", hundredths(share))).collect();
        lines.push(("regions", regions.join(", ")));
        lines
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::from("Target\n");
        for (meaning, value) in self.asked() {
            let _ = writeln!(text, "  {meaning:<40} {value}");
        }
        let steps = self.steps();
        let _ = writeln!(text, "\n{:<42} {:>20} {:>20}", "Results", "original figures", "our figures");
        for name in SUMMARY {
            for (original, ours) in steps.iter().filter(|(step, _)| step.name == *name) {
                let label = original.region.as_ref().map_or_else(|| (*name).to_owned(), |region| format!("  {region}"));
                let show = |step: &Step| step.unit.show(step.value);
                let _ = writeln!(text, "  {label:<40} {:>20} {:>20}", show(original), show(ours));
            }
        }
        text.push_str("\nFormulas, with the original figures and with ours\n");
        let mut before = "";
        for (original, ours) in &steps {
            if original.name != before {
                let _ = writeln!(text, "  {} = {}", original.name, original.formula);
            }
            before = original.name;
            let region = original.region.as_ref().map_or_else(String::new, |region| format!("{region:<12} "));
            let same = original.numbers == ours.numbers;
            for (column, step) in columns(same, original, ours) {
                let _ = writeln!(text, "    {column:<9} {region}{} = {}", step.numbers, step.unit.show(step.value));
            }
        }
        text.push_str("\nFigures: change ours with --set KEY=VALUE\n");
        let rows = ROWS.iter().zip(self.original.all().into_iter().zip(self.ours.all()));
        for (row, (original, ours)) in rows {
            let _ = writeln!(text, "  {}: {}", row.key, row.meaning);
            let same = original.value == ours.value && original.source == ours.source;
            for (column, figure) in columns(same, original, ours) {
                let says = if figure.says.is_empty() { String::new() } else { format!(": {}", figure.says) };
                let value = row.unit.show(figure.get());
                let _ = writeln!(text, "    {column:<9} {value:>14}  {}{says}", figure.source.word());
            }
        }
        let _ = writeln!(text, "\nNotes\n  `measured`: on {MACHINE}.");
        for note in NOTES {
            let _ = writeln!(text, "  {note}");
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        let t = &self.target;
        let regions: Vec<Value> = t
            .regions()
            .map(|(name, share)| json!({"region": name, "share_hundredths_of_percent": whole(share)}))
            .collect();
        let figure = |figure: &Figure| json!({"value": figure.value, "source": figure.source, "says": figure.says});
        let figures: Vec<Value> = ROWS
            .iter()
            .zip(self.original.all().into_iter().zip(self.ours.all()))
            .map(|(row, (original, ours))| {
                json!({
                    "key": row.key, "meaning": row.meaning, "unit": row.unit.word(),
                    "original": figure(original), "ours": figure(ours),
                })
            })
            .collect();
        let column = |step: &Step| json!({"value": whole(step.value), "numbers": step.numbers});
        let results: Vec<Value> = self
            .steps()
            .iter()
            .map(|(original, ours)| {
                json!({
                    "name": original.name, "region": original.region, "unit": original.unit.word(),
                    "formula": original.formula, "original": column(original), "ours": column(ours),
                })
            })
            .collect();
        let peak = t.peak().map(whole);
        let plan = json!({
            "target": {
                "connections": whole(t.connections()),
                "messages_per_day": whole(t.messages_per_day()),
                "peak": peak,
                "peak_factor_hundredths": if peak.is_some() { Value::Null } else { whole(t.peak_factor()) },
                "message_bytes": whole(t.message_bytes()),
                "retention_days": whole(t.retention_days()),
                "archive_days": whole(t.archive_days()),
                "partitions": whole(t.partitions()),
                "replication": whole(t.replication()),
                "spare": t.spare(),
                "regions": regions,
            },
            "results": results,
            "figures": figures,
            "measured_on": MACHINE,
            "notes": NOTES,
        });
        serde_json::to_string_pretty(&plan).unwrap_or_default()
    }
}

/// One line for both where they are the same.
fn columns<'a, T>(same: bool, original: &'a T, ours: &'a T) -> impl Iterator<Item = (&'static str, &'a T)> {
    let first = if same { ("both", ours) } else { ("original", original) };
    std::iter::once(first).chain((!same).then_some(("ours", ours)))
}

/// As a number where JSON's readers can take it exactly, else as a text.
fn whole(value: u128) -> Value {
    const EXACT_MAX: u128 = 1 << 53;
    u64::try_from(value)
        .ok()
        .filter(|_| value <= EXACT_MAX)
        .map_or_else(|| json!(value.to_string()), |value| json!(value))
}
