//! The labels of the metrics, each an enum with the fixed set of its values.
//!
//! A new value is one line here. A new label is one block here and `CounterBy<Name>` where its metric is declared.

use super::diagnostics::Value;

/// A label of a metric. Its values are known before the first request comes.
pub trait Label: Copy {
    /// The label's name on the metrics page.
    const LABEL: &'static str;
    /// All values as they stand on the metrics page, in the order of the variants.
    const NAMES: &'static [&'static str];

    /// The variant's place in [`Label::NAMES`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(
        $(#[$documentation:meta])*
        $name:ident($label:literal) { $($variant:ident = $value:literal,)+ }
    )+) => {$(
        $(#[$documentation])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $value, "`")] $variant,)+
        }

        impl $name {
            /// The value as it stands on the metrics page and in messages.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }

        impl Label for $name {
            const LABEL: &'static str = $label;
            const NAMES: &'static [&'static str] = &[$($value,)+];

            fn index(self) -> usize {
                self as usize
            }
        }

        impl From<$name> for Value<'_> {
            fn from(label: $name) -> Self {
                Self::Text(label.name())
            }
        }
    )+};
}

labels! {
    /// The ports, by what they serve: AdmissionReviews and EventLists over TLS, EventLists in plain text, metrics and
    /// probes in plain text.
    Port("listener") {
        Https = "https",
        Http = "http",
        Metrics = "metrics",
    }

    /// The statuses that we answer with.
    Status("code") {
        Ok = "200",
        BadRequest = "400",
        NotFound = "404",
        MethodNotAllowed = "405",
        RequestTimeout = "408",
        ContentTooLarge = "413",
        UnsupportedMediaType = "415",
        ExpectationFailed = "417",
        HeadTooLarge = "431",
        NotImplemented = "501",
        Unavailable = "503",
        VersionNotSupported = "505",
    }

    /// What had to be replaced in an event.
    Mended("reason") {
        NotUtf8 = "not_utf8",
    }

    /// What a line of the audit log was made of.
    LineKind("kind") {
        AdmissionReview = "AdmissionReview",
        Event = "Event",
    }

    /// Why a request's source token was refused: there was none, or it belongs to no source.
    TokenFault("reason") {
        Missing = "missing",
        Unknown = "unknown",
    }

    /// Why an append failed, by the error of its system call.
    AppendFault("reason") {
        NoSpace = "no_space",
        Quota = "quota",
        Io = "io",
        FileTooLarge = "file_too_large",
        ReadOnly = "read_only",
        BrokenPipe = "broken_pipe",
        PipeFull = "pipe_full",
        Sync = "sync",
        Open = "open",
        Lock = "lock",
        Other = "other",
    }

    /// Why a TLS handshake failed: the peer's alert, or our own error.
    HandshakeFault("reason") {
        Eof = "eof",
        Timeout = "timeout",
        Reset = "reset",
        NotTls = "not_tls",
        UnknownCa = "unknown_ca",
        BadCertificate = "bad_certificate",
        CertificateExpired = "certificate_expired",
        CertificateUnknown = "certificate_unknown",
        CertificateRevoked = "certificate_revoked",
        UnsupportedCertificate = "unsupported_certificate",
        CertificateRequired = "certificate_required",
        HandshakeFailure = "handshake_failure",
        ProtocolVersion = "protocol_version",
        NoApplicationProtocol = "no_application_protocol",
        DecodeError = "decode_error",
        DecryptError = "decrypt_error",
        UnexpectedMessage = "unexpected_message",
        Evicted = "evicted",
        Other = "other",
    }

    /// How much of a request the policy lets be recorded.
    PolicyLevel("level") {
        None = "None",
        Metadata = "Metadata",
        Request = "Request",
        RequestResponse = "RequestResponse",
    }

    /// Whether a changed file came into use.
    Reload("result") {
        Success = "success",
        Failure = "failure",
    }

    /// What kind of connection was closed to make room: one that was new, was idle between requests, sent its request
    /// slowly, or had carried no valid request in its first second.
    Evicted("kind") {
        Newcomer = "newcomer",
        Idle = "idle",
        Slow = "slow",
        Unproven = "unproven",
    }
}
