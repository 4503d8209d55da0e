//! Deadlines on a blocking socket, through its time-outs.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Error;

/// How far a read or write may overshoot its deadline, in exchange for fewer calls to setsockopt.
pub(super) const SLACK: Duration = Duration::from_millis(250);

/// Whether a time-out set to `armed` does not fit the time `left` any more.
pub(super) fn needs_arming(armed: Duration, left: Duration) -> bool {
    armed > left + SLACK || armed + SLACK < left
}

/// Writes all of `data`. `armed` is the socket's write time-out as it was set last.
pub(super) fn write_by(
    mut stream: &TcpStream,
    mut data: &[u8],
    deadline: Instant,
    armed: &mut Duration,
) -> Result<(), Error> {
    while !data.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut);
        }
        if needs_arming(*armed, left) {
            stream.set_write_timeout(Some(left))?;
            *armed = left;
        }
        match stream.write(data) {
            Ok(0) => return Err(Error::Io(ErrorKind::WriteZero.into())),
            Ok(count) => data = data.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
