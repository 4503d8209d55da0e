//! The messages of a test.

use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::observe::diagnostics::{Diagnostics, Format};

/// The messages that a test's [`Diagnostics`] wrote.
#[derive(Clone, Default)]
pub(crate) struct Messages(Arc<Mutex<Vec<u8>>>);

impl Messages {
    pub(crate) fn diagnostics(&self) -> Arc<Diagnostics> {
        Arc::new(Diagnostics::to_sink(Format::Json, Box::new(self.clone())))
    }

    /// Those written since the last call: `level msg field=value ...`, the fields in alphabetical order.
    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        lines.map(plain).collect()
    }
}

fn plain(line: &[u8]) -> String {
    let mut fields: serde_json::Map<_, _> = serde_json::from_slice(line).unwrap();
    fields.remove("time").unwrap();
    let level = fields.remove("level").unwrap();
    let msg = fields.remove("msg").unwrap();
    let mut text = format!("{} {}", level.as_str().unwrap(), msg.as_str().unwrap());
    for (name, value) in fields {
        text += &match value {
            serde_json::Value::String(value) => format!(" {name}={value}"),
            value => format!(" {name}={value}"),
        };
    }
    text
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
