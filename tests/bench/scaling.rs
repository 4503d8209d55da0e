//! The second table: how cost grows with connections, bodies, a disk below the log, and waiting for that disk.

use std::io;

use crate::certificate::Certificate;
use crate::load::{Figures, Load};
use crate::payload::{self, SMALL};
use crate::{Bench, Place, client};

const CONNECTIONS: [usize; 5] = [1, 4, 16, 64, 256];
const BODIES: [(usize, &str); 6] = [
    (SMALL, "1.2 KB"),
    (20_000, "20 KB"),
    (200_000, "200 KB"),
    (1_500_000, "1.5 MB"),
    (8_000_000, "8 MB"),
    (28_000_000, "28 MB"),
];
/// Bytes on the way at once beyond which a case says more of the queue than of the server, and is left out.
const TOGETHER: usize = 256_000_000;

/// Measures and prints it.
pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    for (disk, sync) in [(false, false), (true, false), (false, true), (true, true)] {
        let place = Place::new(disk)?;
        let certificate = Certificate::ecdsa(&place.path)?;
        println!(
            "\nLog on {}, --logger-sync={}",
            if disk { "disk" } else { "tmpfs" },
            if sync { "always" } else { "never" }
        );
        println!(
            "{:<10} {:>11} {:>10} {:>10} {:>10} {:>10} {:>12} {:>9} {:>9}",
            "body", "connections", "req/s", "MB/s", "p50 ms", "p99 ms", "CPU us/req", "to floor", "peak MB"
        );
        for (body, size) in BODIES.into_iter().filter(|(_, size)| size.contains(&bench.only)) {
            for connections in CONNECTIONS.into_iter().filter(|connections| connections * body <= TOGETHER) {
                let load = Load { requests: payload::requests(body)?, connections, fresh: false };
                let mut measured = Vec::new();
                for contestant in bench.contestants.iter().take(2) {
                    let mut server = contestant.start(&certificate, &place.path.join("audit.log"), sync)?;
                    measured.push(load.run(&mut server, &client::config(), bench.warm, bench.measured)?);
                }
                let [ours, floor]: [Figures; 2] =
                    measured.try_into().map_err(|_| io::Error::other("ours and the floor are wanted"))?;
                println!(
                    "{size:<10} {connections:>11} {:>10.0} {:>10.0} {:>10.3} {:>10.3} {:>12.1} {:>9.2} {:>9.1}",
                    ours.rate,
                    ours.rate * body as f64 / 1e6,
                    ours.p50 * 1e3,
                    ours.p99 * 1e3,
                    ours.cpu * 1e6,
                    ours.cpu / floor.cpu,
                    ours.peak / 1e6,
                );
            }
        }
    }
    Ok(())
}
