//! `[telemetry]`, with the standard's variables.

use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate_otlp::{Given, Sampler, Settings, Surroundings, Target};

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
        let (variable, read) = (self.environment.variable, self.environment.read);
        let surroundings = Surroundings { variable: &variable, read: &read };
        let (settings, found) = Settings::resolve(&Given { defaults, ..given }, surroundings);
        if table.is_none() && settings.traces.is_none() && settings.metrics.is_none() {
            return None;
        }
        self.files.extend(found.files);
        if let Some(ca) = table.and_then(|table| table.value.ca.as_ref())
            && [&settings.traces, &settings.metrics].into_iter().flatten().any(Target::trusts_nobody)
        {
            let message = "no certificate can be read of this file, so no collector is trusted";
            self.report(Diagnostic::warning(ca.origin, message));
        }
        for fault in found.faults {
            self.report(Diagnostic::warning(Origin::Default, fault));
        }
        let sampler = settings.sampler.unwrap_or(Sampler::ratio(SAMPLE));
        Some(Telemetry { settings, sampler })
    }

    fn given(&mut self, table: &file::Telemetry) -> Given {
        let file::Telemetry {
            otlp,
            protocol,
            sample,
            metrics,
            metrics_interval,
            headers,
            compression,
            ca,
            timeout,
            service,
            resource,
        } = table;
        Given {
            endpoint: otlp.as_ref().map(|url| url.value.0.clone()),
            protocol: protocol.as_ref().map(|protocol| protocol.value),
            headers: self.headers(&headers.value),
            compression: compression.as_ref().map(|compression| compression.value),
            ca: ca.as_ref().and_then(|ca| self.readable(ca).1),
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
