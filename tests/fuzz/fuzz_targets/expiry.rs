//! Any bytes for a certificate: read with a validity within the years 0 to 9999, or an error, never a panic.
#![no_main]

use kube_audit_rest::tls::certificate;

const YEARS_0_TO_9999: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(certificate) = certificate::read(data) {
        let validity = certificate.validity;
        assert!(YEARS_0_TO_9999.contains(&validity.not_before));
        assert!(YEARS_0_TO_9999.contains(&validity.not_after));
        assert!(certificate::read(&data[..data.len() - 1]).is_err());
    }
});
