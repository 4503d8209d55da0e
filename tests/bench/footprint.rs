//! What a server takes before any load: time to start, memory, size.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::Bench;
use crate::certificate::Certificate;
use crate::client::{self, Connection};
use crate::load::median;
use crate::payload::{self, SMALL};

/// Idle connections held open at once.
const IDLE_CONNECTIONS: usize = 200;

/// One contestant's figures.
#[derive(Debug)]
pub(crate) struct Footprint {
    pub(crate) who: &'static str,
    /// Seconds from before the process is made until the first handshake is over.
    pub(crate) start: f64,
    /// Bytes resident after one request.
    pub(crate) idle: f64,
    /// Bytes resident for each of 200 connections that carried one request of 1.2 KB.
    pub(crate) per_connection: f64,
    /// Bytes of the executable without its symbols; none for the floor, which is this program.
    pub(crate) binary: Option<f64>,
}

/// Starts each contestant `rounds` times, by turns.
pub(crate) fn measure(bench: &Bench, place: &Path, rounds: usize) -> io::Result<Vec<Footprint>> {
    let certificate = Certificate::ecdsa(place)?;
    let config = client::config();
    let requests = payload::requests(SMALL)?;
    let request = requests.first().ok_or_else(|| io::Error::other("no small request"))?;
    let mut rows: Vec<[Vec<f64>; 3]> = bench.contestants.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds {
        for (contestant, [starts, idles, connections]) in bench.contestants.iter().zip(&mut rows) {
            let mut server = contestant.start(&certificate, &place.join("footprint.log"), false)?;
            let mut first = server.wait_for(|address| Connection::open(address, &config))?;
            starts.push(server.started.elapsed().as_secs_f64());
            first.exchange(request)?;
            first.close()?;
            // No event says that a server has put its things away.
            std::thread::sleep(Duration::from_millis(100));
            let idle = server.memory("VmRSS")? as f64;
            let mut held = Vec::new();
            for _ in 0..IDLE_CONNECTIONS {
                let mut connection = Connection::open(server.address, &config)?;
                connection.exchange(request)?;
                held.push(connection);
            }
            let with_connections = server.memory("VmRSS")? as f64;
            idles.push(idle);
            connections.push((with_connections - idle) / IDLE_CONNECTIONS as f64);
        }
    }
    let footprints = bench.contestants.iter().zip(rows).map(|(contestant, [starts, idles, connections])| {
        Ok(Footprint {
            who: contestant.name,
            start: median(starts),
            idle: median(idles),
            per_connection: median(connections),
            binary: if contestant.leading.is_empty() { Some(stripped_size(&contestant.program)?) } else { None },
        })
    });
    footprints.collect()
}

/// Bytes of a 64-bit little-endian ELF file up to the end of its last loaded segment, so that a build with symbols
/// can be compared with one without.
fn stripped_size(program: &Path) -> io::Result<f64> {
    let file = fs::read(program)?;
    let number = |at: usize, length: usize| {
        let bytes = file.get(at..at + length).unwrap_or_default();
        bytes.iter().rev().fold(0, |number: usize, byte| number << 8 | usize::from(*byte))
    };
    const LOAD: usize = 1;
    let (table, entry, entries) = (number(32, 8), number(54, 2), number(56, 2));
    let end = (0..entries)
        .map(|at| table + at * entry)
        .filter(|header| number(*header, 4) == LOAD)
        .map(|header| number(header + 8, 8) + number(header + 32, 8))
        .max();
    Ok(end.unwrap_or(file.len()) as f64)
}
