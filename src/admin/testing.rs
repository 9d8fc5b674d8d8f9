//! A process that is none, for the tests of what is asked of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::Process;
use super::limits::Named;
use super::live::{Gauges, Live};
use super::serve::Desk;
use crate::balance::Pool;
use crate::cache::Cache;
use crate::config;
use crate::control::Outcome;
use crate::pattern::Pattern;
use crate::proxy::explain::Unclear;
use crate::proxy::explain::shape::{Explanation, Question};
use crate::rate_limit::RateLimits;
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{Following, Wanted};
use crate::telemetry::metrics::RouteTotals;

#[derive(Default)]
pub struct FakeProcess {
    pub draining: Cell<bool>,
    pub refusing: Cell<bool>,
    pub pools: BTreeMap<String, Arc<Pool>>,
    pub rate_limits: RateLimits,
    /// Rules that are not those of the start.
    pub rules: RefCell<Option<config::Admin>>,
    /// How often it was looked at for the page.
    pub glances: Cell<u32>,
    /// What routes have counted.
    pub routes: RefCell<BTreeMap<String, RouteTotals>>,
    /// What the next reload comes to.
    pub outcome: RefCell<Option<Outcome>>,
    pub stopped: Cell<bool>,
    /// How many names `[cache.dependencies]` makes of `many`.
    pub dependents: usize,
}

pub fn rules() -> config::Admin {
    config::Admin {
        address: ([127, 0, 0, 1], 9900).into(),
        hosts: Vec::new(),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        socket: None,
        token: Some(config::Secret("0123456789abcdef".to_owned())),
    }
}

pub fn desk(process: FakeProcess) -> Desk<FakeProcess> {
    Desk { process: Rc::new(process), first_rules: rules(), live: Live::default() }
}

impl Process for FakeProcess {
    fn rules(&self) -> Option<config::Admin> {
        self.rules.borrow().clone()
    }

    fn is_draining(&self) -> bool {
        self.draining.get()
    }

    fn refuses_all(&self) -> bool {
        self.refusing.get()
    }

    fn status(&self) -> impl Serialize {
        serde_json::json!({ "status": "healthy" })
    }

    fn glance(&self) -> impl Serialize {
        self.glances.set(self.glances.get() + 1);
        self.status()
    }

    fn gauges(&self) -> Gauges {
        Gauges { connections: 3, busy: 1, hits: 0, misses: 0 }
    }

    fn each_route(&self, mut show: impl FnMut(&str, RouteTotals)) {
        self.routes.borrow().iter().for_each(|(name, totals)| show(name, *totals));
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::new(Metrics::new(SystemTime::UNIX_EPOCH))
    }

    fn explain(&self, question: &Question, _shows_secrets: bool) -> Result<Explanation, Unclear> {
        Err(Unclear { error: format!("{:?} is not explained here", question.url), expected: "nothing" })
    }

    fn follow(&self, _wanted: Wanted) -> Option<Following> {
        None
    }

    fn pools(&self) -> BTreeMap<String, Arc<Pool>> {
        self.pools.clone()
    }

    fn rate_limits(&self) -> Vec<Named> {
        let named = |limit: &Arc<_>| Named { limit: Arc::clone(limit), routes: vec!["/".to_owned()] };
        self.rate_limits.values().map(named).collect()
    }

    fn cache(&self) -> Arc<Cache> {
        Cache::new(self.cache_config().limits(), 1).unwrap()
    }

    fn cache_config(&self) -> config::Cache {
        let dependents = (0..self.dependents).map(|number| Pattern::new(&number.to_string()).unwrap()).collect();
        config::Cache {
            enabled: true,
            memory: 1 << 20,
            object_max: 1 << 10,
            entries_max: 100,
            targets: Vec::new(),
            rules: Vec::new(),
            warm: None,
            dependencies: vec![config::Dependency { name: Pattern::new("many").unwrap(), dependents }],
        }
    }

    async fn reload(&self) -> Option<Outcome> {
        self.outcome.take()
    }

    fn stop(&self) {
        self.stopped.set(true);
    }
}
