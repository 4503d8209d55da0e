//! The validity of a certificate, read from its DER.
//!
//! A reader for this one question: strict where it looks, silent about the rest (rustls checks what it uses), and free of
//! panics whatever the bytes are. It knows nothing of files, PEM or TLS.

use std::fmt;

use time::{Date, Month, Time};

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

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;

/// Reads the validity of an X.509 certificate (RFC 5280, section 4.1).
///
/// # Errors
/// [`Malformed`] where a length is not in DER's shortest form or leads past the end, where an element up to the validity
/// has another tag than RFC 5280's, where a time is not exactly `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` or names no real
/// second, and where anything follows the certificate.
pub fn validity(certificate: &[u8]) -> Result<Validity, Malformed> {
    let mut outside = Reader(certificate);
    let mut certificate = Reader(outside.expect(SEQUENCE, "Certificate")?);
    outside.end("bytes after the certificate")?;

    let mut to_be_signed = Reader(certificate.expect(SEQUENCE, "tbsCertificate")?);
    certificate.expect(SEQUENCE, "signatureAlgorithm")?;
    certificate.expect(BIT_STRING, "signatureValue")?;
    certificate.end("bytes after signatureValue")?;

    if to_be_signed.0.first() == Some(&EXPLICIT_VERSION) {
        to_be_signed.expect(EXPLICIT_VERSION, "version")?;
    }
    to_be_signed.expect(INTEGER, "serialNumber")?;
    to_be_signed.expect(SEQUENCE, "signature")?;
    to_be_signed.expect(SEQUENCE, "issuer")?;
    let mut validity = Reader(to_be_signed.expect(SEQUENCE, "validity")?);
    let not_before = time(validity.next("notBefore")?, "notBefore")?;
    let not_after = time(validity.next("notAfter")?, "notAfter")?;
    validity.end("bytes after notAfter")?;
    Ok(Validity { not_before, not_after })
}

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
    let rest: &[u8; 11] = rest.try_into().ok()?;
    let [digits @ .., b'Z'] = rest else {
        return None;
    };
    let mut pairs = digits.chunks_exact(2).map(|pair| u8::try_from(decimal(pair)?).ok());
    let mut pair = || pairs.next().flatten();
    let month = Month::try_from(pair()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, pair()?).ok()?;
    let time = Time::from_hms(pair()?, pair()?, pair()?).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

/// At most four digits.
fn decimal(digits: &[u8]) -> Option<u16> {
    digits
        .iter()
        .try_fold(0, |number: u16, digit| digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
