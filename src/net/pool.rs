//! The threads that serve a port's connections, one each. A worker that takes a connection first sees to it that another
//! worker waits for the next one; so the pool grows with the demand, and workers that find nothing to do for a while end.
//! Starting a thread takes several times as long as waking one. If the accepting thread started one for each connection,
//! a flood of connects would overflow the kernel's queue far earlier.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::net::accept::Serving;
use crate::net::connection::Connection;
use crate::observe::diagnostics::RateLimit;
use crate::observe::labels::Port;

/// A worker that has had nothing to do for so long ends, unless it is the last that waits.
const WORKER_IDLE: Duration = Duration::from_secs(10);

/// Stack of a worker. A handshake takes the most, under 64 KiB; only what is touched becomes memory.
const STACK: usize = 512 * 1024;

pub(super) struct Pool<'e> {
    /// For the names of threads, and for messages.
    port: Port,
    serving: &'e Serving<'e>,
    complaints: RateLimit,
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Arc<Connection>>,
    /// Workers that wait for a connection, or are about to.
    idle: usize,
    /// Workers started so far, for their names.
    started: usize,
    /// No more connections come.
    closed: bool,
}

impl<'e> Pool<'e> {
    pub(super) fn new(port: Port, serving: &'e Serving<'e>) -> Self {
        Self { port, serving, complaints: RateLimit::new(), jobs: Mutex::default(), arrived: Condvar::new() }
    }

    /// Queues a connection for the next worker.
    pub(super) fn serve_soon(&self, connection: Arc<Connection>) {
        self.lock().waiting.push_back(connection);
        self.arrived.notify_one();
    }

    /// No more connections come; workers end when the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Starts a worker if all idle ones are needed for connections that wait already, so that one is left to wait for the
    /// next connection. Workers are never more than the most connections that there were at once, and that one.
    pub(super) fn see_to_a_waiting_worker<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut jobs = self.lock();
        if jobs.idle > jobs.waiting.len() || jobs.closed {
            return;
        }
        jobs.idle += 1;
        jobs.started += 1;
        let name = format!("{}-{}", self.port.name(), jobs.started);
        drop(jobs);
        let worker = thread::Builder::new().name(name).stack_size(STACK);
        if let Err(error) = worker.spawn_scoped(scope, move || self.work(scope)) {
            let mut jobs = self.lock();
            jobs.idle -= 1;
            let one_waits = jobs.waiting.len() > jobs.idle;
            drop(jobs);
            self.complain("cannot start a thread", &error);
            // A connection that waits for a worker gets one when another connection has ended, or at the next try.
            if one_waits {
                self.serving.roster.make_room();
            }
        }
    }

    /// A worker's life.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        while let Some(connection) = self.next_job() {
            self.see_to_a_waiting_worker(scope);
            connection.begin();
            (self.serving.serve)(&connection);
            // Before the connection leaves: otherwise a newcomer would find this worker neither idle nor at work, and have
            // another one started for nothing.
            self.lock().idle += 1;
            self.serving.roster.leave(&connection);
        }
    }

    /// Waits for a connection, as one of the idle. `None` when the worker is not needed any more.
    fn next_job(&self) -> Option<Arc<Connection>> {
        let mut jobs = self.lock();
        let mut superfluous = false;
        loop {
            if let Some(connection) = jobs.waiting.pop_front() {
                jobs.idle -= 1;
                return Some(connection);
            }
            if jobs.closed || superfluous {
                jobs.idle -= 1;
                return None;
            }
            let waited = self.arrived.wait_timeout(jobs, WORKER_IDLE).unwrap_or_else(PoisonError::into_inner);
            jobs = waited.0;
            superfluous = waited.1.timed_out() && jobs.idle > 1;
        }
    }

    /// Says that the system refused something, rate-limited.
    pub(super) fn complain(&self, msg: &str, error: &dyn std::fmt::Display) {
        if let Some(left_out) = self.complaints.admit(Instant::now()) {
            let error = error.to_string();
            let fields =
                [("listener", self.port.name().into()), ("error", (&error).into()), ("left_out", left_out.into())];
            self.serving.diagnostics.error(msg, &fields);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
