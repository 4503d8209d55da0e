//! Certificates, client CAs, sources, the policy and the chain's key are read again by a thread of their own, so that a
//! file system that hangs holds up neither requests nor the end of the program.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::serve::service::Service;

/// How often the files are read again. The contract promises that a new certificate is in use within 10 s.
const EVERY: Duration = Duration::from_secs(5);

/// Stack of the thread: it parses certificates.
const STACK: usize = 256 * 1024;

/// The thread that re-reads files.
#[derive(Debug)]
pub(super) struct Reloader {
    asked: Arc<Asked>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Asked {
    order: Mutex<Order>,
    changed: Condvar,
}

/// What the thread has to do next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Wait for the next round.
    #[default]
    Wait,
    /// SIGHUP came, once or many times since the last round: do not wait.
    Reload,
    /// End.
    End,
}

impl Reloader {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(service: &Service) -> io::Result<Self> {
        let asked = Arc::new(Asked::default());
        let (orders, diagnostics) = (Arc::clone(&asked), Arc::clone(&service.diagnostics));
        let (tls, sources, policy) = (Arc::clone(&service.tls), service.sources.clone(), service.policy.clone());
        let chain_key = service.chain_key.clone();
        let (memory, windows) = (Arc::clone(&service.memory), Arc::clone(&service.windows));
        let thread = thread::Builder::new().name("reloader".to_owned()).stack_size(STACK).spawn(move || {
            loop {
                match orders.next() {
                    Order::End => break,
                    Order::Reload => diagnostics.info("reloading", &[]),
                    Order::Wait => {}
                }
                tls.reload();
                if let Some(sources) = &sources {
                    sources.reload();
                }
                if let Some(policy) = &policy {
                    policy.reload();
                }
                if let Some(chain_key) = &chain_key {
                    chain_key.reload();
                }
                memory.trim();
                windows.trim();
            }
        })?;
        Ok(Self { asked, thread })
    }

    /// Reads the files again now. Orders that come before the thread gets to it are one.
    pub(super) fn reload(&self) {
        let mut order = self.asked.lock();
        if *order == Order::Wait {
            *order = Order::Reload;
        }
        drop(order);
        self.asked.changed.notify_all();
    }

    /// Tells the thread to end, which it does unless a file system holds it up, and hands it over to be joined.
    pub(super) fn end(self) -> JoinHandle<()> {
        *self.asked.lock() = Order::End;
        self.asked.changed.notify_all();
        self.thread
    }
}

impl Asked {
    /// Waits for an order, or for the time of the next round.
    fn next(&self) -> Order {
        let waiting = |order: &mut Order| *order == Order::Wait;
        let waited = self.changed.wait_timeout_while(self.lock(), EVERY, waiting);
        let mut order = waited.unwrap_or_else(PoisonError::into_inner).0;
        match *order {
            Order::End => Order::End,
            Order::Reload | Order::Wait => std::mem::take(&mut order),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
