//! `[telemetry]`, with the standard's variables.

use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate_otlp::{Given, Sampler, Settings};

use crate::config::decode::Map;
use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::section::Setting;
use crate::config::value::SecretText;
use crate::config::{Telemetry, file};

use super::Lowering;

/// Of what begins here, if nobody says. The standard records all, which at an edge is much.
const SAMPLE: f64 = 0.1;

impl Lowering<'_> {
    /// None if neither the file nor the environment asks for it.
    pub(super) fn telemetry(&mut self, table: Option<&Setting<file::Telemetry>>) -> Option<Telemetry> {
        let given = table.map(|table| self.given(&table.value)).unwrap_or_default();
        let defaults = [("service.name", "tollgate"), ("service.version", env!("CARGO_PKG_VERSION"))];
        let defaults = defaults.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let (settings, faults) = Settings::resolve(&Given { defaults, ..given }, &self.environment.variable);
        if table.is_none() && settings.traces.is_none() && settings.metrics.is_none() {
            return None;
        }
        for fault in faults {
            self.report(Diagnostic::warning(Origin::Default, fault));
        }
        let sampler = settings.sampler.unwrap_or(Sampler::ratio(SAMPLE));
        Some(Telemetry { settings, sampler })
    }

    fn given(&mut self, table: &file::Telemetry) -> Given {
        let file::Telemetry { otlp, protocol, sample, metrics, metrics_interval, headers, timeout, service, resource } =
            table;
        Given {
            endpoint: otlp.as_ref().map(|url| url.value.0.clone()),
            protocol: protocol.as_ref().map(|protocol| protocol.value),
            headers: self.headers(&headers.value),
            metrics: Some(metrics.value),
            metrics_interval: metrics_interval.as_ref().map(|interval| interval.value.0),
            timeout: timeout.as_ref().map(|timeout| timeout.value.0),
            service: service.as_ref().map(|service| service.value.clone()),
            resource: resource
                .value
                .entries
                .iter()
                .map(|(key, text)| (key.value.clone(), text.value.clone()))
                .collect(),
            sampler: sample.as_ref().map(|share| Sampler::ratio(share.value.0)),
            defaults: Vec::new(),
        }
    }

    fn headers(&mut self, headers: &Map<SecretText>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, secret) in &headers.entries {
            let Ok(field) = HeaderName::try_from(&name.value) else {
                let message = format!("`{}` is not the name of a field", name.value);
                self.report(Diagnostic::error(name.origin, message));
                continue;
            };
            let Some(text) = self.secret(secret) else { continue };
            match HeaderValue::try_from(text.trim()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    fields.insert(field, value);
                }
                Err(_) => {
                    let message = format!("the value of `{}` cannot stand in a field", name.value);
                    self.report(Diagnostic::error(secret.origin, message));
                }
            }
        }
        fields
    }
}
