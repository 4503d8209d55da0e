//! The main table: bodies of four sizes at 1, 8 and 64 connections, and full handshakes.

use std::io;
use std::path::Path;

use crate::Bench;
use crate::certificate::Certificate;
use crate::client;
use crate::load::{Figures, Load, median};
use crate::payload::{self, SMALL};
use crate::report;

/// Sizes of bodies, with their names.
pub(crate) const BODIES: [(usize, &str); 4] =
    [(SMALL, "1.2 KB"), (20_000, "20 KB"), (200_000, "200 KB"), (1_500_000, "1.5 MB")];
const CONNECTIONS: [usize; 3] = [1, 8, 64];
const HANDSHAKE_CONNECTIONS: usize = 8;

/// One load, put on every contestant.
pub(crate) struct Case<'a> {
    pub(crate) name: String,
    pub(crate) load: Load,
    pub(crate) certificate: &'a Certificate,
}

/// What a case gave.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
}

/// One contestant in one case.
pub(crate) struct Row {
    pub(crate) who: &'static str,
    pub(crate) figures: Figures,
    /// CPU time as a ratio to the floor's.
    pub(crate) to_floor: f64,
    /// The 99th percentile as a ratio to the floor's.
    pub(crate) p99_to_floor: f64,
    /// CPU time as a ratio to the baseline's, if there is one.
    pub(crate) to_baseline: Option<f64>,
}

/// Measures every case, printing each as it is done.
pub(crate) fn run(bench: &Bench, place: &Path, quick: bool) -> io::Result<Vec<Outcome>> {
    let ecdsa = Certificate::ecdsa(place)?;
    let rsa = match Certificate::rsa(place) {
        Ok(rsa) => Some(rsa),
        Err(error) => {
            println!("No handshakes with RSA: {error}.");
            None
        }
    };
    let mut cases = Vec::new();
    for (body, size) in BODIES {
        for connections in CONNECTIONS {
            if quick && connections != 8 {
                continue;
            }
            cases.push(Case {
                name: format!("{size}, {connections} connection{}", if connections == 1 { "" } else { "s" }),
                load: Load { requests: payload::requests(body)?, connections, fresh: false },
                certificate: &ecdsa,
            });
        }
    }
    for (name, certificate) in [("ECDSA", Some(&ecdsa)), ("RSA-2048", rsa.as_ref())] {
        if let Some(certificate) = certificate {
            cases.push(Case {
                name: format!("new connection, {name}"),
                load: Load { requests: payload::requests(SMALL)?, connections: HANDSHAKE_CONNECTIONS, fresh: true },
                certificate,
            });
        }
    }
    report::heading();
    let mut outcomes = Vec::new();
    for case in cases.iter().filter(|case| case.name.contains(&bench.only)) {
        let outcome = measure(bench, place, case)?;
        report::outcome(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// An EventList beside the same events as an AdmissionReview each: what one event costs either way.
pub(crate) fn run_events(bench: &Bench, place: &Path) -> io::Result<()> {
    let certificate = Certificate::ecdsa(place)?;
    let payload::Events { list, single } = payload::events()?;
    let count = single.len();
    println!("                                        events/s   CPU us/event");
    for (name, requests, each) in [("EventLists", list, count), ("single AdmissionReviews", single, 1)] {
        let case = Case {
            name: name.to_owned(),
            load: Load { requests, connections: 8, fresh: false },
            certificate: &certificate,
        };
        for row in measure(bench, place, &case)?.rows {
            println!(
                "{name:26} {:10} {:10.0} {:14.3}",
                row.who,
                row.figures.rate * each as f64,
                row.figures.cpu * 1e6 / each as f64
            );
        }
    }
    Ok(())
}

fn measure(bench: &Bench, place: &Path, case: &Case<'_>) -> io::Result<Outcome> {
    let config = client::config();
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); bench.contestants.len()];
    for _ in 0..bench.rounds {
        for (contestant, figures) in bench.contestants.iter().zip(&mut rounds) {
            let mut server = contestant.start(case.certificate, &place.join("audit.log"), false)?;
            let run = case.load.run(&mut server, &config, bench.warm, bench.measured);
            figures
                .push(run.map_err(|error| io::Error::other(format!("{}, {}: {error}", case.name, contestant.name)))?);
        }
    }
    let of = |name: &str| bench.contestants.iter().position(|contestant| contestant.name == name);
    let ratio = |figures: &[Figures], other: &str, of_round: fn(&Figures) -> f64| {
        let other = rounds.get(of(other)?)?;
        Some(median(figures.iter().zip(other).map(|(ours, theirs)| of_round(ours) / of_round(theirs))))
    };
    let rows = bench.contestants.iter().zip(&rounds).map(|(contestant, figures)| Row {
        who: contestant.name,
        figures: Figures::median(figures),
        to_floor: ratio(figures, "floor", |round| round.cpu).unwrap_or(f64::NAN),
        p99_to_floor: ratio(figures, "floor", |round| round.p99).unwrap_or(f64::NAN),
        to_baseline: ratio(figures, "baseline", |round| round.cpu),
    });
    Ok(Outcome { name: case.name.clone(), rows: rows.collect() })
}
