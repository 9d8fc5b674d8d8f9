//! One thread that keeps a schedule over some connections. A request that is due waits for a connection if all are
//! taken, and its time runs meanwhile: who is slow is not asked less (no coordinated omission).

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;

use crate::arguments::{Handshake, Load, Protocol};
use crate::codec::Came;
use crate::plan::{Connection, Plan};
use crate::schedule::{Keys, Schedule};
use crate::stream::Received;
use crate::summary::{Latencies, Summary};

/// What is still not answered so long after the last request was due counts as it is.
const PATIENCE: Duration = Duration::from_secs(5);
const EVENTS: usize = 512;
const BUFFER: usize = 64 * 1024;
/// Waits end on time and not up to 50 µs later.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

pub struct Run<'load> {
    plan: Plan<'load>,
    schedule: Schedule,
    keys: Keys,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    /// Connections with room for a request, each as often as it has room; the one that rested longest goes first.
    idle: VecDeque<usize>,
    begun: Instant,
    issued: u64,
    resumed: u64,
    retried: u64,
    latencies: Latencies,
    buffer: Vec<u8>,
}

impl<'load> Run<'load> {
    /// Opens the connections, hand-shakes and all. The time of the run begins after that.
    pub fn begin(load: &'load Load) -> Result<Self> {
        rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS))?;
        let plan = Plan::new(load)?;
        let mut run = Self {
            schedule: Schedule { rate: load.rate, seconds: load.seconds, requests: load.requests },
            keys: Keys { count: load.keys, in_order: load.in_order },
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            idle: VecDeque::new(),
            begun: Instant::now(),
            issued: 0,
            resumed: 0,
            retried: 0,
            latencies: Latencies::default(),
            buffer: vec![0; BUFFER],
            plan,
        };
        for at in 0..load.connections {
            if load.fresh == Some(Handshake::Resumed) {
                // The first of all have nothing to go on from.
                run.plan.fetch_ticket()?;
            }
            run.connections.push(None);
            if load.fresh.is_none() {
                run.open(at, true)?;
            }
        }
        let streams = if load.protocol == Protocol::H2 { load.streams } else { 1 };
        run.idle = (0..streams).flat_map(|_| 0..load.connections).collect();
        run.begun = Instant::now();
        Ok(run)
    }

    pub fn finish(mut self) -> Result<Summary> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut last_issue = Duration::ZERO;
        loop {
            let now = self.begun.elapsed();
            self.issue(now)?;
            let answered = self.latencies.count();
            if self.schedule.is_over(self.issued, now) {
                if answered == self.issued || now.saturating_sub(last_issue) > PATIENCE {
                    break;
                }
            } else {
                last_issue = now;
                if now.as_secs_f64() > self.schedule.seconds + PATIENCE.as_secs_f64() {
                    break;
                }
            }
            events.clear();
            let timeout = self.until_next(now);
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
            for event in &events {
                self.progress(event.data.u64() as usize)?;
            }
        }
        Ok(self.summary())
    }

    /// Sends what is due, as far as there is room for it.
    fn issue(&mut self, now: Duration) -> Result<()> {
        let most = self.plan.load.in_flight.unwrap_or(usize::MAX);
        while !self.schedule.is_over(self.issued, now) && self.in_flight() < most {
            let due = self.schedule.due(self.issued);
            if due.is_some_and(|due| due > now) {
                break;
            }
            let Some(at) = self.idle.pop_front() else { break };
            if self.plan.load.fresh.is_some() {
                self.open(at, false)?;
            }
            let due = due.map_or_else(Instant::now, |due| self.begun + due);
            let key = self.keys.of(self.issued);
            self.issued += 1;
            let Some(Some(connection)) = self.connections.get_mut(at) else { bail!("there is no connection {at}") };
            self.plan.ask(connection, key, due)?;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.issued - self.latencies.count()).unwrap_or(usize::MAX)
    }

    /// How long there is nothing to do if nothing comes.
    fn until_next(&self, now: Duration) -> Timespec {
        let due = self.schedule.due(self.issued).filter(|_| !self.idle.is_empty());
        let wait = due.map_or(Duration::from_millis(100), |due| due.saturating_sub(now));
        let wait = wait.min(Duration::from_millis(100));
        Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) }
    }

    fn open(&mut self, at: usize, ahead: bool) -> Result<()> {
        let connection = self.plan.open(ahead)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &connection.stream, EventData::new_u64(at as u64), flags)?;
        if let Some(place) = self.connections.get_mut(at) {
            *place = Some(connection);
        }
        Ok(())
    }

    /// Reads what a connection has for us.
    fn progress(&mut self, at: usize) -> Result<()> {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(()) };
            connection.stream.flush()?;
            let count = match connection.stream.receive(&mut self.buffer)? {
                Received::Bytes(count) => count,
                Received::NothingYet => return Ok(()),
                Received::End => return self.replace(at),
            };
            let mut came = Came::default();
            connection.codec.feed(self.buffer.get(..count).unwrap_or_default(), &mut came)?;
            if !came.reply.is_empty() {
                connection.stream.send(&came.reply)?;
            }
            for stream in came.answered {
                self.answered(at, stream)?;
            }
        }
    }

    fn answered(&mut self, at: usize, stream: u32) -> Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(()) };
        let position = connection.waits.iter().position(|asked| asked.stream == stream);
        let asked = connection.waits.swap_remove(position.context("an answer that nobody asked for")?);
        self.latencies.add(asked.due.elapsed());
        self.idle.push_back(at);
        if self.plan.load.fresh.is_some() {
            self.resumed += u64::from(connection.stream.is_resumed() == Some(true));
            self.connections.get_mut(at).map(Option::take);
        }
        Ok(())
    }

    /// The peer has closed a connection. A client may ask again on the next (RFC 9110, section 9.2.2), if it is to.
    fn replace(&mut self, at: usize) -> Result<()> {
        let Some(closed) = self.connections.get_mut(at).and_then(Option::take) else { return Ok(()) };
        if !self.plan.load.reconnect {
            bail!("the peer closed a connection");
        }
        self.open(at, true)?;
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(()) };
        for asked in closed.waits {
            self.retried += 1;
            self.plan.ask(connection, asked.key, asked.due)?;
        }
        Ok(())
    }

    fn summary(mut self) -> Summary {
        let seconds = self.begun.elapsed().as_secs_f64();
        let requests = self.latencies.count();
        for asked in self.connections.iter().flatten().flat_map(|connection| &connection.waits) {
            self.latencies.add(asked.due.elapsed());
        }
        // Those that were due and did not even find a connection.
        let mut number = self.issued;
        while let Some(due) = self.schedule.due(number).filter(|_| !self.schedule.is_over(number, Duration::MAX)) {
            self.latencies.add(self.begun.elapsed().saturating_sub(due));
            number += 1;
        }
        self.latencies.sort();
        Summary {
            requests,
            seconds,
            unanswered: self.latencies.count() - requests,
            resumed: self.resumed,
            retried: self.retried,
            p50_us: self.latencies.quantile_us(0.5),
            p99_us: self.latencies.quantile_us(0.99),
            p999_us: self.latencies.quantile_us(0.999),
            max_us: self.latencies.quantile_us(1.0),
        }
    }
}
