//! What the Go original needed, as issue 7 records it.
//!
//! Measured on one core of a comparable machine, with the server pinned to core 0, the generator to core 1, the log on
//! tmpfs, TLS 1.3, an ECDSA certificate and keep-alive. They stand in for the original where `KUBE_AUDIT_REST_BASELINE`
//! does not name it. Another machine's figures: a ratio to them is good for an order of magnitude, and
//! [`PROBE_CPU`] says by how much this machine differs.

use crate::payload::SMALL;

/// CPU seconds of a floor-like probe for 1.2 KB at 8 connections, measured beside the original.
pub(crate) const PROBE_CPU: f64 = 0.0143e-3;

/// One row: keep-alive requests of a size at so many connections.
pub(crate) struct Original {
    pub(crate) body: usize,
    pub(crate) connections: usize,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Seconds of CPU time for each request.
    pub(crate) cpu: f64,
    /// Latencies, in seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Largest resident set, in bytes.
    pub(crate) peak: f64,
}

const fn row(body: usize, connections: usize, rate: f64, latency: [f64; 2], cpu: f64, peak: f64) -> Original {
    let [p50, p99] = latency;
    Original { body, connections, rate, cpu: cpu / 1e3, p50: p50 / 1e3, p99: p99 / 1e3, peak: peak * 1e6 }
}

/// The original's table: requests a second, milliseconds, megabytes.
pub(crate) const ORIGINAL: [Original; 6] = [
    row(SMALL, 1, 10_707.0, [0.084, 0.19], 0.079, 17.0),
    row(SMALL, 8, 26_361.0, [0.28, 0.96], 0.038, 17.5),
    row(SMALL, 64, 22_459.0, [2.8, 6.6], 0.044, 19.0),
    row(20_000, 8, 4_741.0, [1.7, 4.0], 0.205, 17.0),
    row(200_000, 8, 954.0, [4.8, 137.0], 1.08, 21.0),
    row(1_500_000, 8, 138.0, [42.0, 514.0], 7.29, 55.0),
];

/// CPU seconds for a new connection and one request on it: an ECDSA P-256 certificate with X25519MLKEM768 offered, then
/// an RSA-2048 one with x25519.
pub(crate) const HANDSHAKES: [f64; 2] = [0.319e-3, 1.21e-3];
/// Bytes resident when idle.
pub(crate) const IDLE: f64 = 12.1e6;
/// Bytes for each idle connection.
pub(crate) const PER_CONNECTION: f64 = 48e3;
/// Seconds from the process's making to the first handshake.
pub(crate) const START: f64 = 6.8e-3;
/// Bytes of the executable.
pub(crate) const BINARY: f64 = 18.5e6;
