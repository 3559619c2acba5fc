//! Where log lines go, what they look like, and which ones there are.

use std::fmt;
use std::str::FromStr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The environment variable that says which lines there are, where the command line does not.
pub const FILTER_VARIABLE: &str = "DISTRIBUTARY_LOG";

/// What a command has to say to its user goes through whatever the filter says: where lines are JSON,
/// errors of a spec are lines too. So does the audit log: nobody shall silence what was done.
const ALWAYS: &str = "distributary::report=info,audit=info";

/// Packages whose lines the level is about.
const OURS: &[&str] = &[
    "distributary",
    "config",
    "kafka",
    "node",
    "pipeline",
    "postgres",
    "record",
    "rpc",
    "supervision",
    "telemetry",
    "wal",
];

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Shape {
    /// For people: time, level, message, fields.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Which lines there are: a level, or `tracing`'s filter syntax.
///
/// A level is about our own packages; libraries are quieter. librdkafka's lines are background:
/// what matters comes back as an error of a call, so they appear from `debug` on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter(String);

impl Default for Filter {
    fn default() -> Self {
        Self::level("info", "warn", "warn")
    }
}

impl Filter {
    fn level(ours: &str, librdkafka: &str, libraries: &str) -> Self {
        let ours: String = OURS.iter().map(|package| format!(",{package}={ours}")).collect();
        Self(format!("{libraries},librdkafka={librdkafka}{ours}"))
    }
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let text = text.trim();
        Ok(match text.to_ascii_lowercase().as_str() {
            "off" => Self("off".into()),
            "error" => Self::level("error", "error", "error"),
            "warn" => Self::level("warn", "warn", "warn"),
            "" | "info" => Self::default(),
            "debug" => Self::level("debug", "info", "info"),
            "trace" => Self::level("trace", "debug", "debug"),
            _ => {
                // A lone word would be taken for a package, and silence everything.
                if !text.contains('=') {
                    return Err(InvalidFilter(text.to_owned()));
                }
                EnvFilter::try_new(text).map_err(|_| InvalidFilter(text.to_owned()))?;
                Self(text.to_owned())
            }
        })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is neither a level nor a filter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidFilter(pub String);

impl fmt::Display for InvalidFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no log level; use off, error, warn, info, debug, trace, or a filter such as \
             `info,kafka=debug`",
            self.0
        )
    }
}

impl std::error::Error for InvalidFilter {}

/// Sends log lines to `writer`. The second call of a process has no effect.
pub fn start<W>(shape: Shape, filter: &Filter, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{filter},{ALWAYS}")))
        .with_target(false)
        .with_writer(writer);
    let started = match shape {
        Shape::Text => lines.with_ansi(false).try_init(),
        Shape::Json => lines.json().flatten_event(true).try_init(),
    };
    drop(started);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> String {
        text.parse::<Filter>().expect("a filter").to_string()
    }

    #[test]
    fn librdkafka_is_heard_from_debug_on() {
        assert!(filter("info").contains("librdkafka=warn,"));
        assert!(filter("debug").contains("librdkafka=info,"));
        assert!(filter("DEBUG").contains("pipeline=debug"));
    }

    #[test]
    fn every_level_is_a_filter_that_can_be_read() {
        for level in ["off", "error", "warn", "info", "debug", "trace"] {
            assert!(EnvFilter::try_new(filter(level)).is_ok(), "{level}");
        }
    }

    #[test]
    fn a_filter_is_taken_as_it_stands() {
        assert_eq!(filter("warn,kafka=trace"), "warn,kafka=trace");
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["loud", "kafka=loud", "info,,=="] {
            assert_eq!(text.parse::<Filter>(), Err(InvalidFilter(text.into())), "{text}");
        }
    }
}
