//! Where log lines go and what they look like.

use tracing_subscriber::EnvFilter;

/// The environment variable that overrides the level, in `tracing`'s filter syntax.
pub const FILTER_VARIABLE: &str = "DISTRIBUTARY_LOG";

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Shape {
    /// For people: time, level, message, fields.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends log lines to standard error. The second call of a process has no effect.
///
/// Level `info` for our own packages, `warn` for libraries, unless [`FILTER_VARIABLE`] says
/// otherwise; an unreadable filter falls back to the default.
pub fn start(shape: Shape) {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| {
        let ours = ["distributary", "postgres", "kafka", "pipeline", "supervision", "config"];
        EnvFilter::new(ours.map(|package| format!("{package}=info")).join(",") + ",warn")
    });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr);
    let started = match shape {
        Shape::Text => lines.with_ansi(false).try_init(),
        Shape::Json => lines.json().flatten_event(true).try_init(),
    };
    drop(started);
}
