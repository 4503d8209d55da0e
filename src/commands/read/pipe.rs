//! A pipe, a device or standard input, read by a thread of its own: reading it may have to wait, even opening it.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use super::log_file::Found;
use super::source::BUFFER;

/// Bytes that a thread reads ahead, two blocks at most.
#[derive(Debug)]
pub(super) struct Pipe {
    blocks: Receiver<io::Result<Vec<u8>>>,
    /// The block that was begun, and how much of it was read.
    block: Vec<u8>,
    used: usize,
}

/// How to wait for a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until something comes, or the end.
    Block,
    /// Not at all: there are other sources to look at.
    Poll,
}

impl Pipe {
    /// Starts the thread. It ends at the pipe's end, or with the program, which does not wait for it.
    ///
    /// # Errors
    /// The system has no thread.
    pub(super) fn start<R: Read>(open: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<Self> {
        let (sender, blocks) = sync_channel(2);
        thread::Builder::new().name("read-pipe".to_owned()).spawn(move || {
            let mut input = match open() {
                Ok(input) => input,
                Err(error) => return drop(sender.send(Err(error))),
            };
            loop {
                let mut block = vec![0; BUFFER];
                let read = match input.read(&mut block) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    other => other,
                };
                let is_last = matches!(read, Ok(0) | Err(_));
                let read = read.map(|length| {
                    block.truncate(length);
                    block
                });
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(Self { blocks, block: Vec::new(), used: 0 })
    }

    /// Reads on.
    ///
    /// # Errors
    /// Those of opening and reading it.
    pub(super) fn read(&mut self, space: &mut [u8], patience: Patience) -> io::Result<Found> {
        if self.used == self.block.len() {
            let received = match patience {
                Patience::Block => self.blocks.recv().map_err(|_| TryRecvError::Disconnected),
                Patience::Poll => self.blocks.try_recv(),
            };
            match received {
                Ok(block) => self.block = block?,
                Err(TryRecvError::Empty) => return Ok(Found::Nothing),
                Err(TryRecvError::Disconnected) => self.block.clear(),
            }
            self.used = 0;
        }
        let rest = self.block.get(self.used..).unwrap_or_default();
        let length = rest.len().min(space.len());
        for (to, from) in space.iter_mut().zip(rest) {
            *to = *from;
        }
        self.used += length;
        Ok(if length == 0 { Found::End } else { Found::Bytes(length) })
    }
}
