//! Why a handshake failed: a label for the metric, and the words that users of the Go original alert on.
//!
//! The words are those of Go's `net/http` and `crypto/tls`, as they stand after
//! `http: TLS handshake error from ADDRESS: `.

use std::borrow::Cow;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::observe::labels::HandshakeFault;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// The `reason` label of `tls_handshake_failures_total`.
    pub reason: HandshakeFault,
    /// What follows `http: TLS handshake error from ADDRESS: `.
    pub words: Cow<'static, str>,
}

impl HandshakeFailure {
    /// The peer closed the connection between two records.
    pub const END_OF_FILE: Self = Self::new(HandshakeFault::Eof, "EOF");
    /// The peer closed the connection within a record.
    pub const END_OF_FILE_IN_RECORD: Self = Self::new(HandshakeFault::Eof, "unexpected EOF");
    /// The handshake took too long.
    pub const TIMEOUT: Self = Self::new(HandshakeFault::Timeout, "i/o timeout");
    /// Plain HTTP came to the TLS port.
    pub const PLAIN_HTTP: Self = Self::new(HandshakeFault::NotTls, "client sent an HTTP request to an HTTPS server");
    /// Neither TLS nor plain HTTP came to the TLS port.
    pub const NOT_TLS: Self = Self::new(HandshakeFault::NotTls, "tls: first record does not look like a TLS handshake");

    /// Reading or writing failed. That it took too long, or that the peer closed, is told otherwise.
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset => Self::new(HandshakeFault::Reset, "read: connection reset by peer"),
            io::ErrorKind::BrokenPipe => Self::new(HandshakeFault::Reset, "write: broken pipe"),
            _ => Self { reason: HandshakeFault::Other, words: error.to_string().into() },
        }
    }

    /// The peer sent an alert, or we refused what it sent.
    pub fn from_tls(error: &Error) -> Self {
        match error {
            Error::AlertReceived(AlertDescription::CloseNotify) => Self::END_OF_FILE,
            Error::AlertReceived(received) => {
                let (reason, words) = alert(*received);
                Self { reason, words: format!("remote error: tls: {words}").into() }
            }
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::NOT_TLS
            }
            Error::InvalidMessage(_) => Self::ours(HandshakeFault::DecodeError, error),
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                Self::ours(HandshakeFault::UnexpectedMessage, error)
            }
            Error::DecryptError => Self::new(HandshakeFault::DecryptError, "local error: tls: bad record MAC"),
            Error::PeerSentOversizedRecord => Self::new(HandshakeFault::DecodeError, "tls: oversized record received"),
            Error::NoApplicationProtocol => Self::new(
                HandshakeFault::NoApplicationProtocol,
                "tls: client requested unsupported application protocols",
            ),
            Error::NoCertificatesPresented => {
                Self::new(HandshakeFault::CertificateRequired, "tls: client didn't provide a certificate")
            }
            Error::InvalidCertificate(error) => Self::client_certificate(error),
            Error::PeerIncompatible(incompatible) => Self::incompatible(incompatible, error),
            _ => Self::ours(HandshakeFault::Other, error),
        }
    }

    const fn new(reason: HandshakeFault, words: &'static str) -> Self {
        Self { reason, words: Cow::Borrowed(words) }
    }

    /// In rustls's words, where Go has none, or would say more than rustls knows.
    fn ours(reason: HandshakeFault, error: &Error) -> Self {
        Self { reason, words: format!("tls: {error}").into() }
    }

    fn client_certificate(error: &CertificateError) -> Self {
        let (reason, words) = match error {
            CertificateError::UnknownIssuer => (HandshakeFault::UnknownCa, "certificate signed by unknown authority"),
            // The usual cause is a CA that was made anew under its old name. Rustls does not tell it from a client that
            // lacks the key to its certificate.
            CertificateError::BadSignature => (
                HandshakeFault::UnknownCa,
                "certificate signed by unknown authority (possibly because of a bad signature)",
            ),
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                (HandshakeFault::CertificateExpired, "certificate has expired or is not yet valid")
            }
            CertificateError::Revoked => (HandshakeFault::CertificateRevoked, "certificate has been revoked"),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                (HandshakeFault::UnsupportedCertificate, "certificate specifies an incompatible key usage")
            }
            _ => {
                return Self {
                    reason: HandshakeFault::BadCertificate,
                    words: format!("tls: failed to verify certificate: {error}").into(),
                };
            }
        };
        Self { reason, words: format!("tls: failed to verify certificate: x509: {words}").into() }
    }

    fn incompatible(incompatible: &PeerIncompatible, error: &Error) -> Self {
        match incompatible {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired => {
                Self::new(HandshakeFault::ProtocolVersion, "tls: client offered only unsupported versions")
            }
            PeerIncompatible::NoCipherSuitesInCommon => {
                Self::new(HandshakeFault::HandshakeFailure, "tls: no cipher suite supported by both client and server")
            }
            PeerIncompatible::NoSignatureSchemesInCommon => Self::new(
                HandshakeFault::HandshakeFailure,
                "tls: peer doesn't support any of the certificate's signature algorithms",
            ),
            _ => Self::ours(HandshakeFault::HandshakeFailure, error),
        }
    }
}

/// What the peer's alert counts as, and Go's words for it, which are `alert(N)` for those that Go has none for.
fn alert(alert: AlertDescription) -> (HandshakeFault, Cow<'static, str>) {
    let (reason, words) = match alert {
        AlertDescription::UnexpectedMessage => (HandshakeFault::UnexpectedMessage, "unexpected message"),
        AlertDescription::BadRecordMac => (HandshakeFault::DecryptError, "bad record MAC"),
        AlertDescription::DecryptionFailed => (HandshakeFault::Other, "decryption failed"),
        AlertDescription::RecordOverflow => (HandshakeFault::Other, "record overflow"),
        AlertDescription::DecompressionFailure => (HandshakeFault::Other, "decompression failure"),
        AlertDescription::HandshakeFailure => (HandshakeFault::HandshakeFailure, "handshake failure"),
        AlertDescription::BadCertificate => (HandshakeFault::BadCertificate, "bad certificate"),
        AlertDescription::UnsupportedCertificate => (HandshakeFault::UnsupportedCertificate, "unsupported certificate"),
        AlertDescription::CertificateRevoked => (HandshakeFault::CertificateRevoked, "revoked certificate"),
        AlertDescription::CertificateExpired => (HandshakeFault::CertificateExpired, "expired certificate"),
        AlertDescription::CertificateUnknown => (HandshakeFault::CertificateUnknown, "unknown certificate"),
        AlertDescription::IllegalParameter => (HandshakeFault::Other, "illegal parameter"),
        AlertDescription::UnknownCA => (HandshakeFault::UnknownCa, "unknown certificate authority"),
        AlertDescription::AccessDenied => (HandshakeFault::Other, "access denied"),
        AlertDescription::DecodeError => (HandshakeFault::DecodeError, "error decoding message"),
        AlertDescription::DecryptError => (HandshakeFault::DecryptError, "error decrypting message"),
        AlertDescription::ExportRestriction => (HandshakeFault::Other, "export restriction"),
        AlertDescription::ProtocolVersion => (HandshakeFault::ProtocolVersion, "protocol version not supported"),
        AlertDescription::InsufficientSecurity => (HandshakeFault::HandshakeFailure, "insufficient security level"),
        AlertDescription::InternalError => (HandshakeFault::Other, "internal error"),
        AlertDescription::InappropriateFallback => (HandshakeFault::Other, "inappropriate fallback"),
        AlertDescription::UserCanceled => (HandshakeFault::Other, "user canceled"),
        AlertDescription::NoRenegotiation => (HandshakeFault::Other, "no renegotiation"),
        AlertDescription::MissingExtension => (HandshakeFault::Other, "missing extension"),
        AlertDescription::UnsupportedExtension => (HandshakeFault::Other, "unsupported extension"),
        AlertDescription::CertificateUnobtainable => (HandshakeFault::Other, "certificate unobtainable"),
        AlertDescription::UnrecognisedName => (HandshakeFault::Other, "unrecognized name"),
        AlertDescription::BadCertificateStatusResponse => (HandshakeFault::Other, "bad certificate status response"),
        AlertDescription::BadCertificateHashValue => (HandshakeFault::Other, "bad certificate hash value"),
        AlertDescription::UnknownPSKIdentity => (HandshakeFault::Other, "unknown PSK identity"),
        AlertDescription::CertificateRequired => (HandshakeFault::CertificateRequired, "certificate required"),
        AlertDescription::NoApplicationProtocol => (HandshakeFault::NoApplicationProtocol, "no application protocol"),
        AlertDescription::EncryptedClientHelloRequired => (HandshakeFault::Other, "encrypted client hello required"),
        other => return (HandshakeFault::Other, format!("alert({})", u8::from(other)).into()),
    };
    (reason, words.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures that real handshakes meet are in the tests of [`crate::tls`].
    #[test]
    fn alerts_are_told_in_the_words_of_go() {
        for (alert, reason, words) in [
            (AlertDescription::BadCertificate, HandshakeFault::BadCertificate, "bad certificate"),
            (AlertDescription::UnknownCA, HandshakeFault::UnknownCa, "unknown certificate authority"),
            (AlertDescription::CertificateExpired, HandshakeFault::CertificateExpired, "expired certificate"),
            (AlertDescription::CertificateUnknown, HandshakeFault::CertificateUnknown, "unknown certificate"),
            (AlertDescription::CertificateRevoked, HandshakeFault::CertificateRevoked, "revoked certificate"),
            (AlertDescription::HandshakeFailure, HandshakeFault::HandshakeFailure, "handshake failure"),
            (AlertDescription::ProtocolVersion, HandshakeFault::ProtocolVersion, "protocol version not supported"),
            (AlertDescription::DecodeError, HandshakeFault::DecodeError, "error decoding message"),
            (AlertDescription::DecryptError, HandshakeFault::DecryptError, "error decrypting message"),
            (AlertDescription::AccessDenied, HandshakeFault::Other, "access denied"),
            (AlertDescription::from(200), HandshakeFault::Other, "alert(200)"),
        ] {
            let failure = HandshakeFailure::from_tls(&Error::AlertReceived(alert));
            assert_eq!(failure.reason, reason);
            assert_eq!(failure.words, format!("remote error: tls: {words}"));
        }
    }

    #[test]
    fn a_close_notify_before_the_end_of_the_handshake_is_an_eof() {
        let close = Error::AlertReceived(AlertDescription::CloseNotify);
        let failure = HandshakeFailure::from_tls(&close);
        assert_eq!((failure.reason, &*failure.words), (HandshakeFault::Eof, "EOF"));
    }

    #[test]
    fn failures_of_reading_and_writing_are_told_in_the_words_of_go() {
        for (kind, reason, words) in [
            (io::ErrorKind::ConnectionReset, HandshakeFault::Reset, "read: connection reset by peer"),
            (io::ErrorKind::BrokenPipe, HandshakeFault::Reset, "write: broken pipe"),
            (io::ErrorKind::OutOfMemory, HandshakeFault::Other, "out of memory"),
        ] {
            let failure = HandshakeFailure::from_io(&kind.into());
            assert_eq!((failure.reason, &*failure.words), (reason, words));
        }
    }

    #[test]
    fn every_failure_is_told_in_some_words() {
        let mut failures = vec![
            HandshakeFailure::END_OF_FILE,
            HandshakeFailure::END_OF_FILE_IN_RECORD,
            HandshakeFailure::TIMEOUT,
            HandshakeFailure::PLAIN_HTTP,
        ];
        let alerts = (0..=u8::MAX).map(AlertDescription::from);
        failures.extend(alerts.map(|alert| HandshakeFailure::from_tls(&Error::AlertReceived(alert))));
        let ours = [
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::InvalidMessage(InvalidMessage::MessageTooLarge),
            Error::InappropriateMessage { expect_types: vec![], got_type: rustls::ContentType::Heartbeat },
            Error::DecryptError,
            Error::PeerSentOversizedRecord,
            Error::NoApplicationProtocol,
            Error::NoCertificatesPresented,
            Error::FailedToGetRandomBytes,
            CertificateError::UnknownIssuer.into(),
            CertificateError::Expired.into(),
            CertificateError::Revoked.into(),
            CertificateError::InvalidPurpose.into(),
            CertificateError::BadSignature.into(),
            PeerIncompatible::Tls12NotOffered.into(),
            PeerIncompatible::NoCipherSuitesInCommon.into(),
            PeerIncompatible::NoKxGroupsInCommon.into(),
        ];
        failures.extend(ours.iter().map(HandshakeFailure::from_tls));
        for failure in failures {
            assert!(!failure.words.is_empty(), "{failure:?}");
        }
    }
}
