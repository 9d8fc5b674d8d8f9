//! The listener for operators: health, metrics and status to read, and control of the running process.
//!
//! It runs on the control thread, so it answers when every worker is busy. Reading is by TCP, for networks and
//! `Host` values of the configuration; control is by a Unix socket whose file says who may, or by TCP
//! with a token. People see all of it on one page, [`live`]. It decides nothing about the proxy: orders go to the control thread's queue, and what
//! is shown is read at the moment of the request.

mod access;
mod answer;
mod checks;
mod judge;
mod limits;
mod live;
mod purge;
mod routes;
mod serve;
mod slots;
mod socket;
mod status;
#[cfg(test)]
mod testing;
mod view;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use self::limits::Named;
use self::live::{Gauges, Live};
use self::serve::Desk;
use self::socket::{SocketError, SocketFile};
use self::status::UpstreamStatus;
use crate::balance::Pool;
use crate::cache::Cache;
use crate::config;
use crate::control::{Control, Outcome};
use crate::proxy::explain::Unclear;
use crate::proxy::explain::shape::{Explanation, Question};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{Following, Wanted};
use crate::telemetry::metrics::RouteTotals;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("cannot bind the admin address {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("cannot bind the control socket {}: {source}", path.display())]
    Socket { path: PathBuf, source: SocketError },
}

impl AdminError {
    /// Whether it is the path in the configuration, and not somebody else who is there for now.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            Self::Socket { source, .. } => !matches!(source, SocketError::InUse),
            Self::Bind { .. } => false,
        }
    }
}

/// The open listeners, and what is sampled for the page. When it is dropped they close, with their connections, and the socket's file goes.
#[derive(Debug)]
pub struct Admin {
    address: Option<SocketAddr>,
    tasks: Vec<AbortHandle>,
    _file: Option<SocketFile>,
}

/// The running process, as far as operators see and move it.
trait Process: 'static {
    /// The rules in force; None if the configuration has none any more.
    fn rules(&self) -> Option<config::Admin>;
    fn is_draining(&self) -> bool;
    /// Memory is over its hard limit, so that every new request is refused.
    fn refuses_all(&self) -> bool;
    fn status(&self) -> impl Serialize;
    /// What would become of a request; fields that the configuration gives it are shown only if `shows_secrets`.
    fn explain(&self, question: &Question, shows_secrets: bool) -> Result<Explanation, Unclear>;
    /// None: too many follow the log already.
    fn follow(&self, wanted: Wanted) -> Option<Following>;
    /// The same for the page, which is sent it every second: without the long tail.
    fn glance(&self) -> impl Serialize;
    fn gauges(&self) -> Gauges;
    /// Shows what each route has counted.
    fn each_route(&self, show: impl FnMut(&str, RouteTotals));
    fn metrics(&self) -> Arc<Metrics>;
    fn cache(&self) -> Arc<Cache>;
    /// Of the configuration in force.
    fn cache_config(&self) -> config::Cache;
    /// In the order of their names.
    fn rate_limits(&self) -> Vec<Named>;
    fn pools(&self) -> BTreeMap<String, Arc<Pool>>;
    /// None if the process ends before.
    fn reload(&self) -> impl Future<Output = Option<Outcome>>;
    fn stop(&self);
}

/// Opens what `[admin]` names; nothing without it. To be called on a `LocalSet`.
///
/// Networks, hosts and token follow the configuration; the address and the path of the socket stay.
pub async fn listen(control: &Rc<Control>) -> Result<Admin, AdminError> {
    let mut admin = Admin { address: None, tasks: Vec::new(), _file: None };
    let Some(rules) = control.rules() else { return Ok(admin) };
    let desk = Rc::new(Desk { process: Rc::clone(control), first_rules: rules.clone(), live: Live::default() });
    admin.tasks.push(tokio::task::spawn_local(live::run(Rc::clone(&desk))).abort_handle());
    if let Some(path) = rules.socket {
        let (listener, file) = socket::bind(&path).map_err(|source| AdminError::Socket { path, source })?;
        admin._file = Some(file);
        admin.tasks.push(tokio::task::spawn_local(serve::socket(listener, Rc::clone(&desk))).abort_handle());
    }
    let failed = |source| AdminError::Bind { address: rules.address, source };
    let listener = TcpListener::bind(rules.address).await.map_err(failed)?;
    admin.address = Some(listener.local_addr().map_err(failed)?);
    admin.tasks.push(tokio::task::spawn_local(serve::tcp(listener, desk)).abort_handle());
    Ok(admin)
}

impl Admin {
    /// Where it listens on TCP, with the real port for port 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn upstreams(pools: &BTreeMap<String, Arc<Pool>>) -> Vec<UpstreamStatus> {
    pools.iter().map(|(name, pool)| upstream(name, pool)).collect()
}

fn upstream(name: &str, pool: &Pool) -> UpstreamStatus {
    let now = crate::clock::now().into();
    UpstreamStatus::new(name, pool.breaker_status(now), pool.queue().status(), pool.snapshot(now))
}
