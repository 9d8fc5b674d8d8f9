//! The end of the process: nothing that was accepted is lost while there is time, and nothing outlives it.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::control::{Control, Ended, Stop};
use crate::ready;
use crate::telemetry::log::NOTICE;
use crate::worker::{self, Command};

/// Replicas have this long to end after the last request.
const REPLICA_STOP_LIMIT: Duration = Duration::from_secs(10);
/// The same when what was open has been cut.
const REPLICA_CUT_LIMIT: Duration = Duration::from_secs(1);
const LOG_CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Spans that wait, and the last metrics, have this long to reach the collector.
const TELEMETRY_CLOSE_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// Says 503 on `/readyz`, goes on accepting for `drain_delay`, closes the sockets, and waits for what is
/// open until `drain_timeout`, a second signal or the last response.
pub async fn drain(control: &Control, stops: &mut mpsc::UnboundedReceiver<Stop>) -> Ended {
    control.draining.set(true);
    ready::stopping();
    let server = control.shared.live.load().config.server.clone();
    tracing::info!(target: NOTICE, "draining: {} connections are open", control.connections());
    let second_signal = async { while stops.recv().await == Some(Stop::Command) {} };
    let in_peace = async {
        tokio::time::sleep(server.drain_delay).await;
        control.sockets.bound().into_keys().for_each(|address| control.sockets.give_up(address, &control.workers));
        control.workers.iter().for_each(|worker| worker.order(Command::Drain));
        let mut ticks = tokio::time::interval(POLL);
        while !control.workers.iter().all(worker::Handle::is_finished) {
            ticks.tick().await;
        }
    };
    let ended = tokio::select! {
        () = in_peace => Ended::Drained,
        () = tokio::time::sleep(server.drain_delay + server.drain_timeout) => Ended::Cut,
        () = second_signal => Ended::Cut,
    };
    control.workers.iter().for_each(|worker| worker.order(Command::Stop));
    ended
}

/// Ends the replicas, waits for the workers and writes the rest of the log.
pub async fn finish(control: &Control, ended: Ended) {
    let limit = if ended == Ended::Drained { REPLICA_STOP_LIMIT } else { REPLICA_CUT_LIMIT };
    control.supervisor.stop(limit).await;
    let mut ticks = tokio::time::interval(POLL);
    let workers_ended = async {
        while !control.workers.iter().all(worker::Handle::is_finished) {
            ticks.tick().await;
        }
    };
    if tokio::time::timeout(LOG_CLOSE_LIMIT, workers_ended).await.is_err() {
        tracing::warn!("a worker did not end in time");
    }
    if !control.access.close(LOG_CLOSE_LIMIT) {
        tracing::warn!("the end of the access log was not written in time");
    }
    tokio::join!(control.exporting.close(TELEMETRY_CLOSE_LIMIT), control.pushing.close(TELEMETRY_CLOSE_LIMIT));
    match ended {
        Ended::Drained => tracing::info!(target: NOTICE, "stopped; every request was answered"),
        Ended::Cut => tracing::warn!(target: NOTICE, "stopped; open connections were cut"),
    }
}
