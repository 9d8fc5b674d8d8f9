//! What changed of `[telemetry]`.

use tollgate_otlp::{Root, Settings, Target};

use super::Changes;
use crate::config::Telemetry;

impl Changes {
    pub(super) fn telemetry(&mut self, old: Option<&Telemetry>, new: Option<&Telemetry>) {
        self.about("telemetry: ");
        let (old, new) = match (old, new) {
            (Some(old), Some(new)) => (old, new),
            (None, Some(_)) => return self.say("requests are traced"),
            (Some(_), None) => return self.say("requests are no longer traced"),
            (None, None) => return,
        };
        let Telemetry {
            settings: Settings { traces, metrics, metrics_interval, resource, sampler: _, batching },
            sampler,
        } = old;
        let shown = |target: &Option<Target>| target.as_ref().map(Target::place);
        self.value("collector", &shown(traces), &shown(&new.settings.traces));
        if let (Some(old), Some(new)) = (traces, &new.settings.traces) {
            self.silent("query", &old.url.query(), &new.url.query());
            self.silent("headers", &old.headers, &new.headers);
            self.value("compression", &old.compression.word().to_owned(), &new.compression.word().to_owned());
            self.silent("trusted roots", &old.roots, &new.roots);
            self.value("time limit of a message", &old.timeout, &new.timeout);
        }
        self.value("metrics", &shown(metrics), &shown(&new.settings.metrics));
        self.value("metrics_interval", metrics_interval, &new.settings.metrics_interval);
        self.silent("attributes of the process", resource, &new.settings.resource);
        self.silent("batches", batching, &new.settings.batching);
        let share = |root| match root {
            Root::All => "1".to_owned(),
            Root::None => "0".to_owned(),
            Root::Ratio(ratio) => ratio.to_string(),
        };
        self.value("sample", &share(sampler.root), &share(new.sampler.root));
        self.silent("heed of a parent's decision", &sampler.follows_parent, &new.sampler.follows_parent);
    }
}
