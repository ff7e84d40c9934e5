//! Numbers of rounds, and how they are printed.

/// A sample's quantile: 0.5 is the median.
pub(crate) fn quantile(sample: &[f64], share: f64) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The median.
pub(crate) fn median(sample: &[f64]) -> f64 {
    quantile(sample, 0.5)
}

/// Median of the rounds, and from the smallest to the largest.
pub(crate) fn spread(rounds: &[f64], digits: usize) -> String {
    let (least, most) = (quantile(rounds, 0.0), quantile(rounds, 1.0));
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(rounds))
}

/// Round by round, ours by theirs.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// Says whether a goal is met.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

/// A table in Markdown, with its heading and a line below it on how it was measured.
pub(crate) fn print(heading: &str, head: &[&str], rows: &[Vec<String>], note: &str) {
    println!("\n### {heading}\n\n| {} |", head.join(" | "));
    println!("|{}", " --- |".repeat(head.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!("\n{note}");
}

/// A row of texts.
#[macro_export]
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$($cell.to_string()),+] };
}
