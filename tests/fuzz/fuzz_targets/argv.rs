//! Any command line: an action or a one-line error, never a panic. Arguments are separated by NUL bytes, which no
//! argument can hold.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use kube_audit_rest::cli;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let words = data.split(|byte| *byte == 0);
    let words = words.map(|word| OsString::from_vec(word.to_vec()));
    match cli::parse(words) {
        Ok(cli::Action::Run(config)) => {
            config.settings();
            config.warnings();
        }
        Ok(cli::Action::ShowHelp | cli::Action::ShowVersion) => {}
        Err(error) => assert!(!error.contains(char::is_control)),
    }
});
