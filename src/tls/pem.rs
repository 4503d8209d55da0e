//! What a PEM file holds (RFC 7468): whole blocks, or the first thing in it that is wrong, by its line.
//!
//! This is stricter than a decoder, which skips what it does not know and so would drop a certificate without a word if
//! one letter of its marker line is wrong. Text around the blocks is allowed, and so are blocks of other kinds.

use super::certificate;
use crate::files::watched::{Content, Error};

/// A block from its BEGIN line to its END line.
pub(super) struct Block<'f> {
    /// What stands after BEGIN: `CERTIFICATE`, `EC PRIVATE KEY`.
    pub(super) label: &'f str,
    /// The BEGIN line's number, from 1.
    pub(super) line: usize,
    /// The lines between the markers.
    body: Vec<u8>,
}

/// A line that begins or ends a block.
enum Marker<'f> {
    Begin(&'f str),
    End(&'f str),
    /// It was probably meant as one of the two, and is neither.
    NotQuite,
}

/// The file's blocks in their order. A file without any is an error.
pub(super) fn blocks(content: &Content) -> Result<Vec<Block<'_>>, Error> {
    if let Some(what) = not_pem(&content.bytes) {
        return Err(content.unusable(what));
    }
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (line, text) in (1..).zip(content.bytes.split_inclusive(|&byte| byte == b'\n')) {
        let fault = match (open.take(), marker(text.trim_ascii_end())) {
            (None, Some(Marker::Begin(label))) => {
                open = Some(Block { label, line, body: Vec::new() });
                continue;
            }
            (Some(block), Some(Marker::End(label))) if label == block.label => {
                blocks.push(block);
                continue;
            }
            (Some(mut block), None) => {
                block.body.extend_from_slice(text);
                open = Some(block);
                continue;
            }
            (None, None) if !is_base64(text.trim_ascii()) => continue,
            (None, None) => format!("line {line}: base64 outside of a PEM block"),
            (_, Some(Marker::NotQuite)) => format!(
                "line {line} is not quite a PEM marker (-----BEGIN or -----END, a label, five dashes, from the line's \
                 beginning to its end)"
            ),
            (Some(block), Some(Marker::Begin(_))) => without_end(&block),
            (Some(Block { label: begun, line: at, .. }), Some(Marker::End(label))) => {
                format!("line {line}: END {label} after BEGIN {begun} of line {at}")
            }
            (None, Some(Marker::End(label))) => format!("line {line}: END {label} without its BEGIN"),
        };
        return Err(content.unusable(fault));
    }
    match open {
        Some(block) => Err(content.unusable(without_end(&block))),
        None if blocks.is_empty() => Err(content.unusable("holds no PEM block")),
        None => Ok(blocks),
    }
}

fn without_end(block: &Block<'_>) -> String {
    format!("line {}: BEGIN {} without its END", block.line, block.label)
}

impl Block<'_> {
    /// The block's bytes, or `None` where it holds something other than base64.
    pub(super) fn der(&self) -> Option<Vec<u8>> {
        // Rustls decodes the base64 of a block whatever the block is, if it is labelled as a certificate. Its error is
        // not shown, because it quotes the line.
        let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
        pem.extend_from_slice(&self.body);
        pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
        let der = rustls_pemfile::certs(&mut pem.as_slice()).next()?.ok()?;
        Some(der.to_vec())
    }

    /// Whether it is encrypted, in the way of PKCS#8 or the older one of OpenSSL.
    pub(super) fn is_encrypted(&self) -> bool {
        self.label == "ENCRYPTED PRIVATE KEY" || self.body.trim_ascii_start().starts_with(b"Proc-Type: 4,ENCRYPTED")
    }

    /// Why the block is a certificate that goes by another label, if it is.
    pub(super) fn mislabelled_certificate(&self) -> Option<String> {
        let Self { label, line, .. } = self;
        let advice = match *label {
            "CERTIFICATE" => return None,
            "TRUSTED CERTIFICATE" => ", OpenSSL's own; openssl x509 -in FILE writes a CERTIFICATE",
            _ if self.der().is_some_and(|der| certificate::read(&der).is_ok()) => " instead of CERTIFICATE",
            _ => return None,
        };
        Some(format!("line {line}: a certificate under the label {label}{advice}"))
    }
}

/// What a file holds instead of PEM, told by how it begins.
fn not_pem(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        _ if bytes.trim_ascii().is_empty() => Some("the file is empty"),
        [0xef, 0xbb, 0xbf, ..] => Some("begins with a byte order mark (BOM), which is no part of PEM: save it without"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            Some("is UTF-16 text, not PEM: save it as ASCII or UTF-8")
        }
        // A SEQUENCE with a length of two bytes, and in it the version 3 of PKCS#12.
        [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] | [0x30, 0x80, 0x02, 0x01, 0x03, ..] => {
            Some("is PKCS#12 (.p12, .pfx), not PEM: openssl pkcs12 -in FILE -nodes converts it")
        }
        [0x30, 0x80..=0xff, ..] | [0x30, _, 0x02, ..] => {
            Some("is DER, not PEM: openssl x509 or openssl pkey with -inform DER converts it")
        }
        _ if bytes.trim_ascii_start().starts_with(b"LS0tLS1CRUdJTi") => {
            Some("is base64 of PEM, as in a Secret's data, not PEM: decode it once more")
        }
        _ => None,
    }
}

fn marker(line: &[u8]) -> Option<Marker<'_>> {
    let exact = |keyword: &str| {
        let label = line.strip_prefix(keyword.as_bytes())?.strip_suffix(b"-----")?;
        let plain = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ');
        let clean = label.iter().all(plain) && label.trim_ascii().len() == label.len() && !label.is_empty();
        str::from_utf8(label).ok().filter(|_| clean)
    };
    if let Some(label) = exact("-----BEGIN ") {
        return Some(Marker::Begin(label));
    }
    if let Some(label) = exact("-----END ") {
        return Some(Marker::End(label));
    }
    let line = line.trim_ascii_start();
    let holds = |word: &str| line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
    // Two dashes, or a long one that a word processor has made of them.
    let dashes = ["--", "\u{2013}", "\u{2014}"];
    let before = dashes.iter().any(|dashes| line.starts_with(dashes.as_bytes()));
    let behind = dashes.iter().any(|dashes| line.ends_with(dashes.as_bytes()));
    let between = before && behind && (holds("CERTIFICATE") || holds(" KEY"));
    let edged = (before || behind) && (holds("BEGIN ") || holds("END "));
    let bare = ["BEGIN CERTIFICATE", "END CERTIFICATE"].iter().any(|bare| line == bare.as_bytes());
    (between || edged || bare).then_some(Marker::NotQuite)
}

/// Whether a line outside of all blocks is base64: at least 40 of its characters and nothing else. (The lines of a PEM
/// block have 64, except the last.)
fn is_base64(line: &[u8]) -> bool {
    let data = line.strip_suffix(b"=").unwrap_or(line);
    let data = data.strip_suffix(b"=").unwrap_or(data);
    data.len() >= 40 && data.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}
