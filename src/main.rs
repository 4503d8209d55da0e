//! `kube-audit-rest`: owns the exit code, nothing else.
fn main() -> std::process::ExitCode {
    kube_audit_rest::main(std::env::args_os())
}
