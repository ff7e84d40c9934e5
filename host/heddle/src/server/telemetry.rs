//! What the process tells about itself: lines on stderr, and the recorder behind `/metrics`.

use std::io::{IsTerminal as _, stderr};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};
use crate::failure::Failure;

/// Seconds: from a policy's call to a slow disk.
const SECONDS: &[f64] = &[
    0.000_000_5,
    0.000_001,
    0.000_002,
    0.000_005,
    0.000_01,
    0.000_1,
    0.000_5,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
];
/// How many: records in a batch, members in a chunk.
const COUNTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];
/// Bytes.
const BYTES: &[f64] = &[64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// Installs both. Once per process.
///
/// # Errors
/// If the filter is wrong, or somebody installed a recorder before.
pub fn install(config: &Config) -> Result<PrometheusHandle, Failure> {
    let filter = EnvFilter::builder()
        .parse(&config.telemetry.filter)
        .map_err(|error| Failure::usage(format!("telemetry.filter {:?}: {error}", config.telemetry.filter)))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal());
    let installed = match config.telemetry.format {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines.with_target(false).try_init(),
    };
    installed.map_err(|error| Failure::new(format!("the log of the process cannot be set up: {error}")))?;
    recorder().map_err(|error| Failure::new(format!("the metrics cannot be set up: {error}")))
}

fn recorder() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    // Without buckets the exporter makes summaries, which cannot be added up over nodes.
    PrometheusBuilder::new()
        .set_buckets(COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES)?
        .install_recorder()
}
