//! `kube-audit-rest` without a command word: it serves until it is told to end.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::VERSION;
use crate::cli::{self, Action, Config, Exit};
use crate::commands::console::{print, say, wrong_words};
use crate::commands::server::Server;
use crate::commands::signals::{Signal, Signals};
use crate::commands::start_error::StartError;
use crate::commands::{policy, read, verify};
use crate::observe::diagnostics::{Diagnostics, Format};
use crate::observe::metrics::Metrics;
use crate::observe::outlet::Outlet;

const COMMAND: &str = "kube-audit-rest";

/// How often the main thread looks up from waiting for signals. Nothing depends on it.
const LOOK_UP: Duration = Duration::from_secs(3600);

/// How long the end waits for the last messages to be written.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// The same where it cannot start: nothing else is held up, and without the message nobody would know why.
const START_FAILURE: Duration = Duration::from_secs(10);

/// Runs the program with these arguments, the program's own name first. Exit status: 0 after an orderly end, 1 where it
/// cannot start, 2 for a wrong command line, 4 where standard output cannot be written (`--help`).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter().peekable();
    let program = args.next();
    if args.next_if(|word| word == "read").is_some() {
        return read::main(args);
    }
    if args.next_if(|word| word == "policy").is_some() {
        return policy::main(args);
    }
    if args.next_if(|word| word == "verify").is_some() {
        return verify::main(args);
    }
    let exit = match cli::parse(program.into_iter().chain(args)) {
        Ok(Action::Run(config)) => run(&config),
        Ok(Action::ShowHelp) => print(COMMAND, &cli::usage(), Exit::Ok),
        Ok(Action::ShowVersion) => print(COMMAND, &format!("kube-audit-rest {VERSION}\n"), Exit::Ok),
        Err(error) => wrong_words(COMMAND, &error),
    };
    exit.into()
}

fn run(config: &Config) -> Exit {
    let format = if config.verbosity { Format::Text } else { Format::Json };
    let metrics = Arc::new(Metrics::new());
    let outlet = match Outlet::to_stderr(format, Arc::clone(&metrics)) {
        Ok(outlet) => outlet,
        Err(error) => return cannot_start(&StartError::system(error)),
    };
    let diagnostics = Arc::new(Diagnostics::to_sink(format, Box::new(outlet.clone())));
    let ended = serve(config, metrics, &diagnostics);
    outlet.flush_for(LAST_MESSAGES);
    match ended {
        Ok(()) => Exit::Ok,
        Err(error) if io::stderr().is_terminal() => cannot_start(&error),
        Err(error) => {
            diagnostics.error("cannot start", &[("error", (&error.to_string()).into())]);
            outlet.flush_for(START_FAILURE);
            Exit::Failed
        }
    }
}

/// Says it in plain text.
fn cannot_start(error: &StartError) -> Exit {
    say(COMMAND, &format!("cannot start: {error}"));
    Exit::Failed
}

fn serve(config: &Config, metrics: Arc<Metrics>, diagnostics: &Arc<Diagnostics>) -> Result<(), StartError> {
    // First, so that an order to end that comes during the start is not lost (as PID 1) and does not end it half-way.
    let signals = Signals::catch().map_err(StartError::system)?;
    let server = Server::start(config, metrics, Arc::clone(diagnostics))?;
    let delay = loop {
        match signals.wait(LOOK_UP) {
            None => {}
            Some(Signal::Reload) => server.reload(),
            Some(Signal::Terminate) => break config.shutdown_delay,
            Some(Signal::Interrupt) => break Duration::ZERO,
        }
    };
    server.stop(delay, &|patience| signals.wait(patience));
    Ok(())
}
