//! The generator: one blocking thread a connection, each sending its next request when the last reply is there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::client::Connection;
use crate::process::{Server, busy_time, cpu_time};

/// What is asked of a server in one measurement.
#[derive(Debug)]
pub(crate) struct Load {
    /// Heads and bodies, sent in turn.
    pub(crate) requests: Vec<Vec<u8>>,
    /// Connections at once.
    pub(crate) connections: usize,
    /// A new connection, and so a full handshake, for each request.
    pub(crate) fresh: bool,
}

/// What one measurement gave, or the median of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rate: f64,
    /// The server's CPU time for each request, in seconds.
    pub(crate) cpu: f64,
    /// Latency's quantiles, from before the request is written (for fresh connections: from connect(2)) to the whole
    /// reply, in seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Requests whose latency was taken.
    pub(crate) samples: f64,
    /// Largest resident set, in bytes.
    pub(crate) peak: f64,
    /// Share of one core that the server took, that the generator took, and of two that others took.
    pub(crate) server: f64,
    pub(crate) generator: f64,
    pub(crate) others: f64,
}

impl Figures {
    /// Each figure's median.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure));
        Self {
            rate: of(|round| round.rate),
            cpu: of(|round| round.cpu),
            p50: of(|round| round.p50),
            p99: of(|round| round.p99),
            p999: of(|round| round.p999),
            samples: of(|round| round.samples),
            peak: of(|round| round.peak),
            server: of(|round| round.server),
            generator: of(|round| round.generator),
            others: of(|round| round.others),
        }
    }
}

/// The middle value; NaN of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

/// Requests that a measurement waits for, and how many times its length it waits for them.
const ENOUGH: u64 = 100;
const LONGER: usize = 10;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

impl Load {
    /// Runs it against a server that has just started, and checks that its log grew by what was acknowledged.
    pub(crate) fn run(
        &self,
        server: &mut Server,
        config: &Arc<ClientConfig>,
        warm: Duration,
        measured: Duration,
    ) -> io::Result<Figures> {
        server.wait_for(|address| Connection::open(address, config)?.close())?;
        let address = server.address;
        let mut opened = Vec::new();
        for _ in 0..self.connections {
            opened.push(if self.fresh { None } else { Some(Connection::open(address, config)?) });
        }
        let (phase, done, bytes) = (AtomicU8::new(WARMING), AtomicU64::new(0), AtomicU64::new(0));

        let one = |start: usize, mut kept: Option<Connection>| -> io::Result<Vec<u64>> {
            let mut latencies = Vec::with_capacity(1 << 16);
            for request in self.requests.iter().cycle().skip(start % self.requests.len()) {
                let began_in = phase.load(Relaxed);
                if began_in == ENDING {
                    break;
                }
                let began = Instant::now();
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => Connection::open(address, config)?,
                };
                connection.exchange(request)?;
                if began_in == MEASURING {
                    latencies.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
                if self.fresh {
                    connection.close()?;
                } else {
                    kept = Some(connection);
                }
                done.fetch_add(1, Relaxed);
                bytes.fetch_add(request.len() as u64, Relaxed);
            }
            Ok(latencies)
        };

        let now = || -> io::Result<Moment> {
            Ok(Moment {
                at: Instant::now(),
                done: done.load(Relaxed),
                server: server.cpu_time()?,
                generator: cpu_time(std::process::id())?,
                busy: busy_time()?,
            })
        };
        let (before, after, mut latencies) = thread::scope(|scope| -> io::Result<_> {
            let one = &one;
            let threads: Vec<_> =
                opened.into_iter().enumerate().map(|(at, kept)| scope.spawn(move || one(at, kept))).collect();
            thread::sleep(warm);
            let before = now();
            phase.store(MEASURING, Relaxed);
            // Few large requests fit into the time that is enough for small ones.
            for _ in 0..LONGER {
                thread::sleep(measured);
                if done.load(Relaxed) - before.as_ref().map_or(0, |before| before.done) >= ENOUGH {
                    break;
                }
            }
            let after = now();
            phase.store(ENDING, Relaxed);
            let mut latencies = Vec::new();
            for thread in threads {
                latencies.extend(thread.join().map_err(|_| io::Error::other("a generator's thread panicked"))??);
            }
            Ok((before?, after?, latencies))
        })?;

        let logged = std::fs::metadata(&server.log)?.len();
        let heads: u64 = self.requests.iter().map(|request| head(request)).max().unwrap_or(0) * done.load(Relaxed);
        if !server.leaves_out && logged < bytes.load(Relaxed) - heads {
            return Err(io::Error::other(format!(
                "acknowledged {} bytes, found {logged} in the log",
                bytes.load(Relaxed)
            )));
        }
        latencies.sort_unstable();
        let quantile = |share: f64| {
            let at = (latencies.len() as f64 * share) as usize;
            latencies.get(at.min(latencies.len().saturating_sub(1))).map_or(f64::NAN, |nanos| *nanos as f64 / 1e9)
        };
        let seconds = (after.at - before.at).as_secs_f64();
        let requests = (after.done - before.done) as f64;
        let cpu = (after.server - before.server).as_secs_f64();
        let generator = (after.generator - before.generator).as_secs_f64();
        Ok(Figures {
            rate: requests / seconds,
            cpu: cpu / requests,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            samples: latencies.len() as f64,
            peak: server.memory("VmHWM")? as f64,
            server: cpu / seconds,
            generator: generator / seconds,
            others: ((after.busy - before.busy).as_secs_f64() - cpu - generator).max(0.0) / seconds / 2.0,
        })
    }
}

struct Moment {
    at: Instant,
    done: u64,
    server: Duration,
    generator: Duration,
    busy: Duration,
}

/// Length of a request's head.
fn head(request: &[u8]) -> u64 {
    request.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at as u64 + 4)
}
