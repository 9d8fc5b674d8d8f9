//! Takes note of the end of processes whose parents have ended before them.
//!
//! They come to the first process of a container, or to a subreaper, and stay in the table of processes until
//! somebody waits for them. Replicas are waited for by their own tasks, so nothing here may touch those.

use std::io;

use rustix::process::{Pid, WaitId, WaitIdOptions, child_subreaper, getpid, waitid};
use tokio::signal::unix::{SignalKind, signal};

/// Whether orphans come to this process.
pub fn are_ours() -> bool {
    getpid() == Pid::INIT || child_subreaper().is_ok_and(|setting| setting.is_some())
}

/// Reaps every child that has ended and is not supervised, for as long as it is polled.
///
/// It is to run on the thread that starts replicas: there is no moment then in which one has been
/// started and `is_supervised` does not know it.
pub async fn reap(is_supervised: impl Fn(u32) -> bool) -> io::Result<()> {
    let mut ends = signal(SignalKind::child())?;
    loop {
        for pid in ended_children().filter(|pid| !is_supervised(pid.as_raw_pid().unsigned_abs())) {
            // It has ended and is our child, so its number belongs to it until this call.
            let _reaped = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
        ends.recv().await;
    }
}

/// None of a system without `/proc`.
fn ended_children() -> impl Iterator<Item = Pid> {
    let parent = getpid().as_raw_pid();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(move |pid| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
        stat.is_ok_and(|stat| is_ended_child(&stat, parent))
    })
}

/// By the third and fourth field of `stat`, which follow the name in parentheses (proc(5)).
fn is_ended_child(stat: &str, parent: i32) -> bool {
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    fields.next() == Some("Z") && fields.next().is_some_and(|field| field.parse() == Ok(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_children_are_told_from_others() {
        let check = |stat: &str, expected: bool| assert_eq!(is_ended_child(stat, 7), expected, "{stat}");
        check("12 (sleep) Z 7 7 1 0", true);
        check("12 (sleep) S 7 7 1 0", false);
        check("12 (sleep) Z 8 7 1 0", false);
        check("12 (a) Z 7 (b) S 8 7 1 0", false);
        check("12 (a) S 8 (b)) Z 7 7 1 0", true);
        check("", false);
    }
}
