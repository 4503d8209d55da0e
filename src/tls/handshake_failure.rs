//! Why a handshake failed: a label for the metric, and the words that users of the Go original alert on.
//!
//! The words are those of Go's `net/http` and `crypto/tls`, as they stand after
//! `http: TLS handshake error from ADDRESS: `.

use std::borrow::Cow;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// One of the label values of [`crate::observe::metrics::Metrics::tls_handshake_failures`].
    pub reason: &'static str,
    /// What follows `http: TLS handshake error from ADDRESS: `.
    pub words: Cow<'static, str>,
}

impl HandshakeFailure {
    /// The peer closed the connection, before a record or (`mid_record`) within one.
    pub fn end_of_file(mid_record: bool) -> Self {
        Self::new("eof", if mid_record { "unexpected EOF" } else { "EOF" })
    }

    /// The handshake took too long.
    pub fn timeout() -> Self {
        Self::new("timeout", "i/o timeout")
    }

    /// Plain HTTP came to the TLS port.
    pub fn plain_http() -> Self {
        Self::new("not_tls", "client sent an HTTP request to an HTTPS server")
    }

    /// Neither TLS nor plain HTTP came to the TLS port.
    pub fn not_tls() -> Self {
        Self::new("not_tls", "tls: first record does not look like a TLS handshake")
    }

    /// Reading or writing failed.
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::end_of_file(false),
            io::ErrorKind::ConnectionReset => Self::new("reset", "read: connection reset by peer"),
            io::ErrorKind::BrokenPipe => Self::new("reset", "write: broken pipe"),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::timeout(),
            _ => Self { reason: "other", words: error.to_string().into() },
        }
    }

    /// The peer sent an alert, or we refused what it sent.
    pub fn from_tls(error: &Error) -> Self {
        match error {
            Error::AlertReceived(AlertDescription::CloseNotify) => Self::end_of_file(false),
            Error::AlertReceived(alert) => Self {
                reason: alert_reason(*alert),
                words: format!("remote error: tls: {}", alert_words(*alert)).into(),
            },
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::not_tls()
            }
            Error::InvalidMessage(_) => Self::ours("decode_error", error),
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                Self::ours("unexpected_message", error)
            }
            Error::DecryptError => Self::new("decrypt_error", "local error: tls: bad record MAC"),
            Error::PeerSentOversizedRecord => Self::new("decode_error", "tls: oversized record received"),
            Error::NoApplicationProtocol => {
                Self::new("no_application_protocol", "tls: client requested unsupported application protocols")
            }
            Error::NoCertificatesPresented => {
                Self::new("certificate_required", "tls: client didn't provide a certificate")
            }
            Error::InvalidCertificate(error) => Self::client_certificate(error),
            Error::PeerIncompatible(incompatible) => Self::incompatible(incompatible, error),
            _ => Self::ours("other", error),
        }
    }

    fn new(reason: &'static str, words: &'static str) -> Self {
        Self { reason, words: words.into() }
    }

    /// In rustls' words, where Go has none for it or would say more than rustls knows.
    fn ours(reason: &'static str, error: &Error) -> Self {
        Self { reason, words: format!("tls: {error}").into() }
    }

    fn client_certificate(error: &CertificateError) -> Self {
        let (reason, words) = match error {
            CertificateError::UnknownIssuer => ("unknown_ca", "certificate signed by unknown authority"),
            // A CA made anew under its old name; a client without the key to its certificate looks the same to rustls.
            CertificateError::BadSignature => {
                ("unknown_ca", "certificate signed by unknown authority (possibly because of a bad signature)")
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                ("certificate_expired", "certificate has expired or is not yet valid")
            }
            CertificateError::Revoked => ("certificate_revoked", "certificate has been revoked"),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                ("unsupported_certificate", "certificate specifies an incompatible key usage")
            }
            _ => {
                return Self {
                    reason: "bad_certificate",
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
                Self::new("protocol_version", "tls: client offered only unsupported versions")
            }
            PeerIncompatible::NoCipherSuitesInCommon => {
                Self::new("handshake_failure", "tls: no cipher suite supported by both client and server")
            }
            PeerIncompatible::NoSignatureSchemesInCommon => Self::new(
                "handshake_failure",
                "tls: peer doesn't support any of the certificate's signature algorithms",
            ),
            _ => Self::ours("handshake_failure", error),
        }
    }
}

fn alert_reason(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => "handshake_failure",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError | AlertDescription::BadRecordMac => "decrypt_error",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        _ => "other",
    }
}

/// Go's `alertText`, and its `alert(N)` for the rest.
fn alert_words(alert: AlertDescription) -> Cow<'static, str> {
    let words = match alert {
        AlertDescription::CloseNotify => "close notify",
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::DecryptionFailed => "decryption failed",
        AlertDescription::RecordOverflow => "record overflow",
        AlertDescription::DecompressionFailure => "decompression failure",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ExportRestriction => "export restriction",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::InternalError => "internal error",
        AlertDescription::InappropriateFallback => "inappropriate fallback",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::NoRenegotiation => "no renegotiation",
        AlertDescription::MissingExtension => "missing extension",
        AlertDescription::UnsupportedExtension => "unsupported extension",
        AlertDescription::CertificateUnobtainable => "certificate unobtainable",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::BadCertificateStatusResponse => "bad certificate status response",
        AlertDescription::BadCertificateHashValue => "bad certificate hash value",
        AlertDescription::UnknownPSKIdentity => "unknown PSK identity",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        AlertDescription::EncryptedClientHelloRequired => "encrypted client hello required",
        other => return format!("alert({})", u8::from(other)).into(),
    };
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    /// Failures that real handshakes meet are in the tests of [`crate::tls`].
    #[test]
    fn alerts_are_told_in_the_words_of_go() {
        for (alert, reason, words) in [
            (AlertDescription::BadCertificate, "bad_certificate", "bad certificate"),
            (AlertDescription::UnknownCA, "unknown_ca", "unknown certificate authority"),
            (AlertDescription::CertificateExpired, "certificate_expired", "expired certificate"),
            (AlertDescription::CertificateUnknown, "certificate_unknown", "unknown certificate"),
            (AlertDescription::CertificateRevoked, "certificate_revoked", "revoked certificate"),
            (AlertDescription::HandshakeFailure, "handshake_failure", "handshake failure"),
            (AlertDescription::ProtocolVersion, "protocol_version", "protocol version not supported"),
            (AlertDescription::DecodeError, "decode_error", "error decoding message"),
            (AlertDescription::DecryptError, "decrypt_error", "error decrypting message"),
            (AlertDescription::AccessDenied, "other", "access denied"),
            (AlertDescription::from(200), "other", "alert(200)"),
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
        assert_eq!((failure.reason, &*failure.words), ("eof", "EOF"));
    }

    #[test]
    fn failures_of_reading_and_writing_are_told_in_the_words_of_go() {
        for (kind, reason, words) in [
            (io::ErrorKind::UnexpectedEof, "eof", "EOF"),
            (io::ErrorKind::ConnectionReset, "reset", "read: connection reset by peer"),
            (io::ErrorKind::BrokenPipe, "reset", "write: broken pipe"),
            (io::ErrorKind::TimedOut, "timeout", "i/o timeout"),
            (io::ErrorKind::WouldBlock, "timeout", "i/o timeout"),
            (io::ErrorKind::OutOfMemory, "other", "out of memory"),
        ] {
            let failure = HandshakeFailure::from_io(&kind.into());
            assert_eq!((failure.reason, &*failure.words), (reason, words));
        }
    }

    #[test]
    fn every_reason_is_in_the_fixed_set_of_the_metric() {
        let mut failures =
            vec![HandshakeFailure::end_of_file(true), HandshakeFailure::timeout(), HandshakeFailure::plain_http()];
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
        let metrics = Metrics::new();
        for failure in failures {
            let mut set = metrics.tls_handshake_failures.iter();
            assert!(set.any(|(reason, _)| reason == failure.reason), "{failure:?}");
            assert!(!failure.words.is_empty());
        }
    }
}
