//! Runs one VRL program (Vector's remap language, the compiler that Vector itself embeds) over the lines of standard
//! input, each as the event that Vector's `file` source would make of it, and prints the events that come out.

use std::collections::BTreeMap;
use std::io::BufRead;

use vrl::compiler::state::RuntimeState;
use vrl::compiler::{Context, TargetValue, TimeZone};
use vrl::diagnostic::Formatter;
use vrl::value;
use vrl::value::{Secrets, Value};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: vrl-run PROGRAM < lines")?;
    let source = std::fs::read_to_string(path)?;
    let compiled = vrl::compiler::compile(&source, &vrl::stdlib::all())
        .map_err(|diagnostics| Formatter::new(&source, diagnostics).to_string())?;
    for line in std::io::stdin().lock().lines() {
        let mut target = TargetValue {
            value: value!({file: "/var/log/kube-audit-rest/pod.log", offset: 0, message: (line?)}),
            metadata: Value::Object(BTreeMap::new()),
            secrets: Secrets::default(),
        };
        let mut state = RuntimeState::default();
        let timezone = TimeZone::default();
        compiled
            .program
            .resolve(&mut Context::new(&mut target, &mut state, &timezone))
            .map_err(|error| format!("{error:?}"))?;
        println!("{}", serde_json::to_string(&target.value)?);
    }
    Ok(())
}
