//! The beat of a worker, by a timer of the kernel.
//!
//! A timer of the runtime would wake a quiet worker nearly twice for each: the wheel that it stands in is turned at
//! moments of its own too, at most 64 ms apart. And all workers keep time: they wake at once, and so does, but once,
//! whoever they hand something to.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read, retry_on_intr};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// It needs a runtime.
#[derive(Debug)]
pub struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    /// Now, and then at each multiple of the period since the system was started.
    pub fn every(period: Duration) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = Timespec::try_from(period).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The first of them, which is long past.
        let beat = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &beat)?;
        Ok(Self(register(timer)?))
    }

    /// Those that were missed are not made up for.
    pub async fn next(&self) -> io::Result<()> {
        let mut count = [0; size_of::<u64>()];
        loop {
            let mut ready = self.0.readable().await?;
            // Before it is read, which sets it going again: the next tick is told of anew.
            ready.clear_ready();
            match retry_on_intr(|| read(&self.0, &mut count)) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[expect(unsafe_code, reason = "no other way registers a descriptor")]
fn register(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it owns its descriptor, which is the same and open until it is dropped with what it is moved into.
    Ok(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests {
    use rustix::time::timerfd_gettime;

    use super::*;
    use crate::clock;

    const PERIOD: Duration = Duration::from_millis(20);

    fn left(ticks: &Ticks) -> Duration {
        timerfd_gettime(&ticks.0).unwrap().it_value.try_into().unwrap()
    }

    #[tokio::test]
    async fn all_tick_at_the_same_moments() {
        let one = Ticks::every(PERIOD).unwrap();
        one.next().await.unwrap();
        std::thread::sleep(PERIOD / 3);
        let other = Ticks::every(PERIOD).unwrap();
        other.next().await.unwrap();
        loop {
            one.next().await.unwrap();
            other.next().await.unwrap();
            let (before, between, after) = (left(&one), left(&other), left(&one));
            // Unless a tick came meanwhile.
            if before >= after && !after.is_zero() {
                assert!(before >= between && between >= after, "{before:?} {between:?} {after:?}");
                break;
            }
        }
    }

    #[tokio::test]
    async fn those_that_were_missed_are_not_made_up_for() {
        let ticks = Ticks::every(PERIOD).unwrap();
        ticks.next().await.unwrap();
        std::thread::sleep(5 * PERIOD);
        let late = clock::now();
        for _ in 0..3 {
            ticks.next().await.unwrap();
        }
        // The first at once, the others at the beat.
        assert!(late.elapsed() >= PERIOD);
    }
}
