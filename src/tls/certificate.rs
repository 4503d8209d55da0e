//! What has to be known of a certificate, read from its DER: when it is valid, and whether the API server will refuse
//! it.
//!
//! Anything malformed up to the validity is an error. What is malformed after that is left to rustls, which checks what
//! it uses. Knows nothing of files, PEM or TLS.

use std::fmt;

use crate::record::timestamp::{decimal, unix_seconds};

/// What is read of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// When it is valid.
    pub validity: Validity,
    /// Why Go, and so an API server, refuses it as a server's certificate: in the words of Go's `crypto/x509`.
    pub refusals: Vec<&'static str>,
    /// Why Go refuses it anywhere in a chain: in the same words.
    pub weak_signature: Option<String>,
    /// Whether its basicConstraints, or their absence, forbid it to sign other certificates (RFC 5280, section 4.2.1.9).
    pub is_leaf: bool,
}

/// When a certificate is valid, in seconds since the Unix epoch, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

/// The bytes are not a DER certificate; says which part is not what RFC 5280 wants there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a DER certificate: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const EXPLICIT_EXTENSIONS: u8 = 0xa3;

/// Signature algorithms that Go no longer trusts, with its names for them.
const INSECURE: [(&[u8], &str); 4] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x02], "MD2-RSA"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], "MD5-RSA"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "SHA1-RSA"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "ECDSA-SHA1"),
];
/// id-at-commonName, as an element of a name.
const COMMON_NAME: [u8; 5] = [OBJECT_IDENTIFIER, 3, 0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Reads an X.509 certificate (RFC 5280, section 4.1).
///
/// # Errors
/// [`Malformed`] where a length is not in DER's shortest form or leads past the end, where an element up to the
/// validity has another tag than RFC 5280's, where a time is not exactly `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` or names
/// no real second, and where anything follows the certificate.
pub fn read(certificate: &[u8]) -> Result<Certificate, Malformed> {
    let mut outside = Reader(certificate);
    let mut certificate = Reader(outside.expect(SEQUENCE, "Certificate")?);
    outside.end("bytes after the certificate")?;

    let mut to_be_signed = Reader(certificate.expect(SEQUENCE, "tbsCertificate")?);
    certificate.expect(SEQUENCE, "signatureAlgorithm")?;
    certificate.expect(BIT_STRING, "signatureValue")?;
    certificate.end("bytes after signatureValue")?;

    let versioned = to_be_signed.0.first() == Some(&EXPLICIT_VERSION);
    if versioned {
        to_be_signed.expect(EXPLICIT_VERSION, "version")?;
    }
    to_be_signed.expect(INTEGER, "serialNumber")?;
    let signature = to_be_signed.expect(SEQUENCE, "signature")?;
    let issuer = to_be_signed.expect(SEQUENCE, "issuer")?;
    let mut validity = Reader(to_be_signed.expect(SEQUENCE, "validity")?);
    let not_before = time(validity.next("notBefore")?, "notBefore")?;
    let not_after = time(validity.next("notAfter")?, "notAfter")?;
    validity.end("bytes after notAfter")?;
    let mut certificate = Certificate {
        validity: Validity { not_before, not_after },
        refusals: Vec::new(),
        weak_signature: None,
        is_leaf: false,
    };
    // What is not understood from here on is left to rustls.
    certificate.is_leaf = match judge(&mut certificate, to_be_signed, signature, issuer) {
        Ok(Some(is_ca)) => !is_ca,
        // Version 1 has no extensions in which a CA could say that it is one.
        Ok(None) => versioned,
        Err(_) => false,
    };
    Ok(certificate)
}

/// Fills in what Go would refuse of the rest of the certificate, and returns what its basicConstraints say.
fn judge(
    certificate: &mut Certificate,
    mut rest: Reader<'_>,
    signature: &[u8],
    issuer: &[u8],
) -> Result<Option<bool>, Malformed> {
    let algorithm = Reader(signature).expect(OBJECT_IDENTIFIER, "algorithm")?;
    let subject = rest.expect(SEQUENCE, "subject")?;
    rest.expect(SEQUENCE, "subjectPublicKeyInfo")?;
    let mut extensions = Extensions::default();
    while !rest.0.is_empty() {
        // There may be two unique identifiers before the extensions; they are skipped.
        if let (EXPLICIT_EXTENSIONS, contents) = rest.next("extensions")? {
            extensions = Extensions::read(contents)?;
        }
    }
    if let Some((_, name)) = INSECURE.iter().find(|(identifier, _)| *identifier == algorithm) {
        // Go checks no signature of a certificate that is trusted itself.
        let unless = if subject == issuer { " (unless the caBundle holds this very certificate)" } else { "" };
        certificate.weak_signature = Some(format!("x509: cannot verify signature: insecure algorithm {name}{unless}"));
    }
    if !extensions.has_names && subject.windows(COMMON_NAME.len()).any(|part| part == COMMON_NAME) {
        certificate.refusals.push("x509: certificate relies on legacy Common Name field, use SANs instead");
    } else if !extensions.has_names {
        certificate.refusals.push("x509: certificate is not valid for any names");
    }
    if extensions.serves == Some(false) {
        certificate.refusals.push("x509: certificate specifies an incompatible key usage");
    }
    Ok(extensions.is_ca)
}

/// What the extensions say.
#[derive(Default)]
struct Extensions {
    /// There is a subjectAltName.
    has_names: bool,
    /// What basicConstraints says; nothing is said where it is missing.
    is_ca: Option<bool>,
    /// Whether extKeyUsage allows serverAuth; everything is allowed where it is missing.
    serves: Option<bool>,
}

impl Extensions {
    fn read(explicit: &[u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut list = Reader(Reader(explicit).expect(SEQUENCE, "extensions")?);
        while !list.0.is_empty() {
            let mut extension = Reader(list.expect(SEQUENCE, "extension")?);
            let identifier = extension.expect(OBJECT_IDENTIFIER, "extnID")?;
            if extension.0.first() == Some(&BOOLEAN) {
                extension.expect(BOOLEAN, "critical")?;
            }
            let mut value = Reader(extension.expect(OCTET_STRING, "extnValue")?);
            match identifier {
                SUBJECT_ALT_NAME => found.has_names = true,
                BASIC_CONSTRAINTS => {
                    let constraints = Reader(value.expect(SEQUENCE, "basicConstraints")?);
                    found.is_ca = Some(constraints.0.starts_with(&[BOOLEAN, 1, 0xff]));
                }
                EXTENDED_KEY_USAGE => {
                    let mut usages = Reader(value.expect(SEQUENCE, "extKeyUsage")?);
                    let serves = found.serves.insert(false);
                    while !usages.0.is_empty() {
                        let usage = usages.expect(OBJECT_IDENTIFIER, "KeyPurposeId")?;
                        *serves |= usage == SERVER_AUTH || usage == ANY_USAGE;
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Reads DER elements one after another; holds what is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: its tag and its contents.
    fn next(&mut self, what: &'static str) -> Result<(u8, &'a [u8]), Malformed> {
        let (tag, contents, rest) = element(self.0).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok((tag, contents))
    }

    /// The contents of the next element, which must have this tag.
    fn expect(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], Malformed> {
        match self.next(what)? {
            (found, contents) if found == tag => Ok(contents),
            _ => Err(Malformed(what)),
        }
    }

    /// Fails if anything follows.
    fn end(&self, what: &'static str) -> Result<(), Malformed> {
        match self.0 {
            [] => Ok(()),
            _ => Err(Malformed(what)),
        }
    }
}

/// Tag, contents and what follows. `None` unless the length is definite, in its shortest form, at most three bytes long
/// (16 MB; a certificate file holds at most 1 MiB) and within `bytes`.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81..=0x83 => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |length, &digit| (length << 8) | usize::from(digit));
            let shortest = length > 0x7f && digits.first() != Some(&0);
            shortest.then_some((length, bytes))?
        }
        _ => return None,
    };
    let (contents, rest) = bytes.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// Seconds since the Unix epoch. Years of two digits are 1950 to 2049 (RFC 5280, section 4.1.2.5.1).
fn time((tag, contents): (u8, &[u8]), what: &'static str) -> Result<i64, Malformed> {
    let seconds = match tag {
        UTC_TIME => contents.split_at_checked(2).and_then(|(year, rest)| {
            let year = decimal(year)?;
            timestamp(if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }),
        GENERALIZED_TIME => contents.split_at_checked(4).and_then(|(year, rest)| timestamp(decimal(year)?, rest)),
        _ => None,
    };
    seconds.ok_or(Malformed(what))
}

/// `rest` is `MMDDHHMMSSZ`.
fn timestamp(year: u16, rest: &[u8]) -> Option<i64> {
    let digits: &[u8; 10] = rest.strip_suffix(b"Z")?.try_into().ok()?;
    let mut numbers = [0; 5];
    for (number, pair) in numbers.iter_mut().zip(digits.chunks_exact(2)) {
        *number = u8::try_from(decimal(pair)?).ok()?;
    }
    unix_seconds(year, numbers)
}

#[cfg(test)]
mod tests;
