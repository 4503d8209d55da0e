//! Throw-away certificates: a CA that lives as long as the test, and ECDSA P-256 certificates signed by it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion};
use time::OffsetDateTime;

/// The names that [`Authority::server`]'s certificates are good for, beside 127.0.0.1.
pub const SERVICE_NAME: &str = "kube-audit-rest.kube-audit-rest.svc";

/// A certification authority of our own, with a name that no other has: a client that trusts another one must not even
/// find this one by its name.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate with its key, both as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    certificate_der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("throw-away CA {:x?}", &key.public_key_raw()[1..9]));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// The CA's own certificate, what a webhook configuration's `caBundle` holds.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for the server on loopback and under a Service's name.
    pub fn server(&self) -> Pair {
        self.server_until(rcgen::date_time_ymd(2999, 12, 31))
    }

    /// The same, valid up to and including this second.
    pub fn server_until(&self, not_after: OffsetDateTime) -> Pair {
        self.issue(&["localhost", "127.0.0.1", SERVICE_NAME], ExtendedKeyUsagePurpose::ServerAuth, not_after)
    }

    /// The same, valid from this second on.
    pub fn server_from(&self, not_before: OffsetDateTime) -> Pair {
        let names = ["localhost", "127.0.0.1", SERVICE_NAME];
        self.issue_between(&names, ExtendedKeyUsagePurpose::ServerAuth, not_before, rcgen::date_time_ymd(2999, 12, 31))
    }

    /// A certificate for a client.
    pub fn client(&self) -> Pair {
        self.issue(&["kube-apiserver"], ExtendedKeyUsagePurpose::ClientAuth, rcgen::date_time_ymd(2999, 12, 31))
    }

    fn issue(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose, not_after: OffsetDateTime) -> Pair {
        self.issue_between(names, purpose, rcgen::date_time_ymd(1975, 1, 1), not_after)
    }

    fn issue_between(
        &self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "throw-away");
        params.extended_key_usages = vec![purpose];
        (params.not_before, params.not_after) = (not_before, not_after);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            certificate_der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// A client that trusts this CA and offers what the API server offers.
    pub fn trust(&self) -> Arc<ClientConfig> {
        self.trust_with(ALL_VERSIONS, &[b"http/1.1"])
    }

    /// The same with these TLS versions and ALPN names only.
    pub fn trust_with(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// A client that trusts this CA and offers what `provider` has, in its order.
    pub fn trust_through(&self, provider: CryptoProvider) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        Arc::new(config)
    }

    /// A client that trusts this CA and shows `pair` when asked for a certificate.
    pub fn trust_and_show(&self, pair: &Pair) -> Arc<ClientConfig> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.key_der.clone()));
        let mut config = ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![pair.certificate_der.clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }
}
