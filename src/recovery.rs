//! What the control thread does when memory, an upstream or connections are short: the cache gives memory back, and
//! connections that idle are closed early. Breakers act by themselves, with the requests; here they are reported beside the
//! others.
//!
//! When it is time for it is decided in [`overload`](crate::overload).

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::balance::Pool;
use crate::cache::Cache;
use crate::clock;
use crate::machine;
use crate::overload::crowd::{Crowded, Use};
use crate::overload::memory::LOOK_EVERY;
use crate::overload::recovery::{Action, Recovery};
use crate::overload::{Overload, Pressure, memory};
use crate::snapshot::Snapshot;
use crate::worker::Shared;

/// Looks after memory and connections, for as long as it is polled.
pub async fn run(shared: Shared) {
    tokio::join!(keep_memory(&shared), keep_room(&shared));
}

/// The three actions at this moment.
pub fn report(snapshot: &Snapshot, overload: &Overload) -> [Recovery; 3] {
    let now = clock::now().into_std();
    let breakers = snapshot.upstreams.values().filter_map(|upstream| upstream.pool.breaker_status(now));
    let (mut has_breaker, mut is_open, mut opened) = (false, false, overload.done.breakers_gone());
    for breaker in breakers {
        (has_breaker, is_open, opened) = (true, is_open || !breaker.is_closed(), opened + breaker.opened);
    }
    let server = &snapshot.config.server;
    [
        Recovery {
            action: Action::CacheMemory,
            enabled: server.memory.is_some(),
            active: overload.pressure() != Pressure::None,
            times: overload.done.memory_given_back(),
        },
        Recovery { action: Action::Breaker, enabled: has_breaker, active: is_open, times: opened },
        Recovery {
            action: Action::IdleConnections,
            enabled: server.idle_close_at.is_some(),
            active: overload.crowded().is_anywhere(),
            times: overload.done.crowds(),
        },
    ]
}

/// What the breakers of `before` have done that the next generation does not go on with stays counted.
pub fn keep_count(before: &Snapshot, next: &Snapshot, overload: &Overload) {
    let now = clock::now().into_std();
    for (name, upstream) in &before.upstreams {
        let goes_on = next.upstreams.get(name).is_some_and(|next| next.pool.has_breaker_of(&upstream.pool));
        if !goes_on && let Some(breaker) = upstream.pool.breaker_status(now) {
            overload.done.count_breaker_gone(breaker.opened);
        }
    }
}

async fn keep_memory(shared: &Shared) {
    let (mut before, mut pause) = (None, Duration::ZERO);
    let mut keeping: Option<JoinHandle<()>> = None;
    loop {
        tokio::time::sleep(pause).await;
        let looked_before = std::mem::replace(&mut pause, LOOK_EVERY);
        let Some(limits) = shared.live.load().config.server.memory else {
            shared.overload.set_pressure(Pressure::None, 0);
            give_all(&shared.cache).await;
            continue;
        };
        let Some(resident) = machine::memory() else { continue };
        let grown = before.replace(resident).map_or(0, |before| resident.saturating_sub(before));
        pause = memory::next_look(resident, limits, (grown, looked_before));
        set_pressure(&shared.overload, resident, limits);
        // Going over the cache takes long, and requests are refused meanwhile if that is not enough.
        if keeping.as_ref().is_none_or(JoinHandle::is_finished) {
            let (cache, overload) = (Arc::clone(&shared.cache), Arc::clone(&shared.overload));
            let keep = move || keep_cache(&cache, &overload, resident, limits);
            keeping = Some(tokio::task::spawn_blocking(keep));
        }
    }
}

fn set_pressure(overload: &Overload, resident: u64, limits: memory::Limits) {
    let before = overload.pressure();
    let pressure = memory::pressure(resident, limits, before);
    overload.set_pressure(pressure, resident);
    match pressure.cmp(&before) {
        Ordering::Greater => tracing::warn!("{} MiB of memory are used: pressure {}", resident >> 20, pressure.word()),
        Ordering::Less => tracing::info!("{} MiB of memory are used: pressure {}", resident >> 20, pressure.word()),
        Ordering::Equal => {}
    }
}

fn keep_cache(cache: &Cache, overload: &Overload, resident: u64, limits: memory::Limits) {
    let before = cache.stored();
    if let Some(stored_max) = memory::capacity(resident, limits, before) {
        cache.set_stored_max(stored_max);
        // Below the limit it may only not have what is not there.
        if resident >= limits.soft && stored_max < before.capacity {
            overload.done.count_memory_given_back();
            let (had, has) = (before.bytes >> 20, stored_max >> 20);
            tracing::warn!("the cache gives memory back: of {had} MiB it keeps {has} MiB at most");
        }
    }
    if resident >= limits.soft {
        // What others have let go of as well.
        machine::trim_memory();
    }
}

/// Without limits the cache has all that it may have, whatever it gave back before.
async fn give_all(cache: &Arc<Cache>) {
    let (stored, cache) = (cache.stored(), Arc::clone(cache));
    if stored.capacity < stored.configured {
        let _ended = tokio::task::spawn_blocking(move || cache.set_stored_max(stored.configured)).await;
    }
}

async fn keep_room(shared: &Shared) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let before = shared.overload.crowded();
        let crowded = look(shared, &shared.live.load_full(), &before);
        if crowded != *before {
            shared.overload.set_crowded(crowded);
        }
    }
}

/// Looks at the connections of clients and at the capped endpoints, and says what has changed.
fn look(shared: &Shared, snapshot: &Snapshot, before: &Crowded) -> Crowded {
    let done = &shared.overload.done;
    let percent = snapshot.config.server.idle_close_at;
    let all = shared.cap.in_use();
    let clients = percent.is_some_and(|percent| all.is_crowded(percent, before.clients));
    if clients && !before.clients {
        done.count_crowd();
        let Use { used, max } = all;
        tracing::warn!("{used} of {max} connections are open: those that idle are closed after a second");
    } else if before.clients && !clients {
        tracing::info!("{} of {} connections are open: there is room again", all.used, all.max);
    }
    let mut endpoints = Vec::new();
    for upstream in snapshot.upstreams.values() {
        look_at_pool(&upstream.pool, percent, before, &mut endpoints, || done.count_crowd());
    }
    Crowded { clients, endpoints }
}

fn look_at_pool(pool: &Pool, percent: Option<u32>, before: &Crowded, crowded: &mut Vec<u64>, mut begins: impl FnMut()) {
    let name = &pool.upstream().name;
    for member in pool.members().iter() {
        let endpoint = &member.endpoint;
        let (in_use, was) = (pool.queue().in_use_at(endpoint), before.is_at(endpoint.id));
        let is = percent.is_some_and(|percent| in_use.is_crowded(percent, was));
        let (address, Use { used, max }) = (endpoint.address, in_use);
        if is {
            crowded.push(endpoint.id);
        }
        match (was, is) {
            (false, true) => {
                begins();
                tracing::warn!(
                    "endpoint {address} of {name} has {used} of {max} requests: connections to it that idle are closed"
                );
            }
            (true, false) => {
                tracing::info!("endpoint {address} of {name} has {used} of {max} requests: there is room again")
            }
            _ => {}
        }
    }
}
