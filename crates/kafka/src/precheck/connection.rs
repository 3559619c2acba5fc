//! The first contact: what the brokers are, or why they do not say it.

use super::reach::{Spoken, spoken};
use crate::Error;
use crate::lookup::Lookup;
use crate::settings::Settings;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use std::time::{Duration, Instant};

const DOING: &str = "reading metadata";
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// How long the first try takes before it is asked why, and by how much each further one is longer.
const TRY_STEP: Duration = Duration::from_millis(500);

/// What each broker speaks; `None`: it did not answer.
type Heard<'a> = Vec<(&'a str, Option<Spoken>)>;

/// Brokers and topics, or the most telling reason why there are none.
pub(super) fn connect(lookup: &Lookup, settings: &Settings) -> Result<Metadata, Error> {
    let until = Instant::now() + CONNECT_MAX;
    let mut patience = TRY_STEP;
    // The library is silent about an error that it has told: what it told stays the reason.
    let mut told = None;
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(TRY_STEP);
        let failed = match lookup.try_metadata(patience.min(left)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => Error::from_kafka(DOING, &error),
        };
        match lookup.trouble() {
            Some((RDKafkaErrorCode::AllBrokersDown, _)) if told.is_some() => {}
            Some((code, reason)) => told = Some(Error::from_code(DOING, code, &reason)),
            None => {}
        }
        let error = told.clone().unwrap_or(failed);
        if !matches!(error, Error::Unreachable { .. } | Error::Client { .. }) {
            return Err(error);
        }
        let is_last = until <= Instant::now();
        // Asked again at the end: a busy broker may not have answered the first time.
        if patience == TRY_STEP || is_last {
            let brokers = settings.brokers().split(',').map(str::trim);
            let heard: Heard<'_> = brokers.map(|broker| (broker, spoken(broker))).collect();
            if let Some(reason) = other_transport(settings, &heard) {
                return Err(Error::Authentication { doing: DOING.into(), reason });
            }
            if is_last {
                return Err(with_hint(error, settings, &heard));
            }
        }
        patience += TRY_STEP;
    }
}

/// A broker that only closes the connection says nothing; one that speaks TLS where the settings do
/// not, or the other way round, can be told.
fn other_transport(settings: &Settings, heard: &Heard<'_>) -> Option<String> {
    let protocol = settings.protocol();
    let (found, instead) = match settings.encrypts() {
        true => (Spoken::Plaintext, "PLAINTEXT or SASL_PLAINTEXT, or name a TLS port"),
        false => (Spoken::Tls, "SSL or SASL_SSL, or name a plaintext port"),
    };
    let (broker, _) = heard.iter().find(|(_, spoken)| *spoken == Some(found))?;
    let speaks = if found == Spoken::Tls { "speaks TLS" } else { "speaks no TLS" };
    Some(format!(
        "`{broker}` {speaks}, and `sink.security.protocol` is {protocol}; set it to {instead} in \
         `sink.brokers`"
    ))
}

/// A listener that asks for SASL closes the connection of whoever does not offer it.
fn with_hint(error: Error, settings: &Settings, heard: &Heard<'_>) -> Error {
    if let Error::Unreachable { doing, reason } = &error
        && !settings.authenticates()
        && heard.iter().any(|(_, spoken)| spoken.is_some())
    {
        let hint = "it answers and closes the connection: does it ask for SASL, and \
                    `sink.security.protocol` does not offer it?";
        return Error::Unreachable { doing: doing.clone(), reason: format!("{reason}: {hint}") };
    }
    error
}
