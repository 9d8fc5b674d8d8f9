//! What changed in rate limits.

use crate::config::{Quota, RateLimit};

use super::{Changes, on};

impl Changes {
    pub(super) fn rate_limits(&mut self, old: &[RateLimit], new: &[RateLimit]) {
        self.about("");
        let names = |limits: &[RateLimit]| limits.iter().map(|limit| limit.name.clone()).collect::<Vec<_>>();
        self.members("rate limit", &names(old), &names(new));
        for limit in old {
            if let Some(now) = new.iter().find(|now| now.name == limit.name) {
                self.rate_limit(limit, now);
            }
        }
    }

    fn rate_limit(&mut self, old: &RateLimit, new: &RateLimit) {
        let RateLimit { name, quota, exempt, dry_run, headers, keys_max } = old;
        self.about(format!("rate limit {name}: "));
        let Quota { key, ipv6_prefix, requests, window, algorithm } = quota;
        self.value("key", &key.to_string(), &new.quota.key.to_string());
        self.value("IPv6 prefix", &u32::from(*ipv6_prefix), &u32::from(new.quota.ipv6_prefix));
        self.value("requests", requests, &new.quota.requests);
        self.value("window", window, &new.quota.window);
        self.value("algorithm", &algorithm.to_string(), &new.quota.algorithm.to_string());
        if *quota != new.quota {
            self.say("counting begins anew");
        }
        self.members("exempt network", exempt, &new.exempt);
        self.value("dry run", &on(*dry_run), &on(new.dry_run));
        self.value("headers", &headers.word(), &new.headers.word());
        self.value("most keys", keys_max, &new.keys_max);
    }
}
