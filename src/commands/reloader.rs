//! Certificates, client CAs, sources, the policy and the chain's key are read again by a thread of their own, so that a
//! file system that hangs holds up neither requests nor the end of the program.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::files::chain_key::ChainKeyFile;
use crate::serve::service::Service;

/// How often the files are read again. The contract promises that a new certificate is in use within 10 s.
const EVERY: Duration = Duration::from_secs(5);

/// Stack of the thread: it parses certificates.
const STACK: usize = 256 * 1024;

/// The thread that re-reads files.
#[derive(Debug)]
pub(super) struct Reloader {
    /// Orders to read the files now. There is room for one, so that many SIGHUPs are one. Dropped, it ends the thread.
    orders: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Reloader {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(service: &Service, chain_key: Option<Arc<ChainKeyFile>>) -> io::Result<Self> {
        let (orders, ordered) = sync_channel(1);
        let diagnostics = Arc::clone(&service.diagnostics);
        let (tls, sources, policy) = (Arc::clone(&service.tls), service.sources.clone(), service.policy.clone());
        let (memory, windows) = (Arc::clone(&service.memory), Arc::clone(&service.windows));
        let thread = thread::Builder::new().name("reloader".to_owned()).stack_size(STACK).spawn(move || {
            loop {
                match ordered.recv_timeout(EVERY) {
                    Ok(()) => diagnostics.info("reloading", &[]),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
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
        Ok(Self { orders, thread })
    }

    /// Reads the files again now, if that is not ordered already.
    pub(super) fn reload(&self) {
        let _ = self.orders.try_send(());
    }

    /// Tells the thread to end, which it does unless a file system holds it up, and hands it over to be joined.
    pub(super) fn end(self) -> JoinHandle<()> {
        self.thread
    }
}
