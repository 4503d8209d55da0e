//! Deadlines on a blocking socket, through its time-outs.

use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Error;

/// How far a read or write may overshoot its deadline, in exchange for fewer calls to setsockopt.
pub(super) const SLACK: Duration = Duration::from_millis(250);

/// One of a socket's two time-outs, as it was set last.
#[derive(Debug)]
pub(super) struct TimeOut(Duration);

impl TimeOut {
    /// As a new socket has it.
    pub(super) const NONE: Self = Self(Duration::MAX);

    /// Makes a call that may block until `deadline`. A time-out that is too long for that is shortened with `set`. One that
    /// is too short stays, and the call is made again if it ends by it. So a connection on which short and long waits
    /// alternate, for a body and for the next request, costs no call to setsockopt.
    pub(super) fn bound<T>(
        &mut self,
        deadline: Instant,
        set: impl Fn(Duration) -> io::Result<()>,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> Result<T, Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            if self.0 > left + SLACK {
                set(left)?;
                self.0 = left;
            }
            match call().map_err(Error::from) {
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(Error::TimedOut) if self.0 < left => *self = Self::NONE,
                done => return done,
            }
        }
    }
}

/// Writes all of `data`.
pub(super) fn write_by(
    stream: &TcpStream,
    mut data: &[u8],
    deadline: Instant,
    time_out: &mut TimeOut,
) -> Result<(), Error> {
    let set = |left| stream.set_write_timeout(Some(left));
    while !data.is_empty() {
        match time_out.bound(deadline, set, || (&mut &*stream).write(data))? {
            0 => return Err(Error::Io(ErrorKind::WriteZero.into())),
            count => data = data.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn a_shorter_time_out_is_kept_and_outlived() {
        let mut time_out = TimeOut(Duration::from_millis(5));
        let (mut calls, began) = (0, Instant::now());
        let set = |_| Ok(());
        let outcome = time_out.bound(began + Duration::from_secs(60), set, || {
            calls += 1;
            (calls == 2).then_some(7).ok_or(ErrorKind::WouldBlock.into())
        });
        assert_eq!(outcome.unwrap(), 7);
        assert!(time_out.0 > Duration::from_secs(50), "{time_out:?}");
    }

    #[test]
    fn a_longer_time_out_is_shortened_once() {
        let mut time_out = TimeOut::NONE;
        let sets = std::cell::Cell::new(0);
        for _ in 0..3 {
            let set = |left| {
                sets.set(sets.get() + 1);
                assert!(left <= Duration::from_secs(60));
                Ok(())
            };
            time_out.bound(soon(60_000), set, || Ok(())).unwrap();
            time_out.bound(soon(600_000), set, || Ok(())).unwrap();
        }
        assert_eq!(sets.get(), 1);
    }

    #[test]
    fn past_the_deadline_no_call_is_made_and_an_interrupted_one_is_made_again() {
        let mut time_out = TimeOut::NONE;
        let mut called = false;
        let none = time_out.bound(
            Instant::now(),
            |_| Ok(()),
            || {
                called = true;
                Ok(())
            },
        );
        assert!(matches!(none, Err(Error::TimedOut)) && !called);
        let mut interrupted = false;
        let again = || {
            let first = !std::mem::replace(&mut interrupted, true);
            first.then_some(()).map_or(Ok(()), |()| Err(ErrorKind::Interrupted.into()))
        };
        time_out.bound(soon(60_000), |_| Ok(()), again).unwrap();
        assert!(interrupted);
    }
}
