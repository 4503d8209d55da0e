//! Throw-away certificates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAME: &str = "kube-audit-rest.kube-audit-rest.svc";

/// PEM files.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// ECDSA with P-256, self-signed.
    pub(crate) fn ecdsa(directory: &Path) -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).map_err(io::Error::other)?;
        let certificate = Self { chain: directory.join("ecdsa.crt"), key: directory.join("ecdsa.key") };
        fs::write(&certificate.chain, made.cert.pem())?;
        fs::write(&certificate.key, made.signing_key.serialize_pem())?;
        Ok(certificate)
    }

    /// RSA of 2048 bits, made by the openssl command, for ring makes no RSA keys.
    pub(crate) fn rsa(directory: &Path) -> io::Result<Self> {
        let certificate = Self { chain: directory.join("rsa.crt"), key: directory.join("rsa.key") };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"])
            .arg(format!("/CN={NAME}"))
            .args(["-addext", &format!("subjectAltName=DNS:{NAME}")])
            .arg("-keyout")
            .arg(&certificate.key)
            .arg("-out")
            .arg(&certificate.chain)
            .stderr(Stdio::null())
            .status()?;
        if made.success() { Ok(certificate) } else { Err(io::Error::other("openssl made no certificate")) }
    }
}
