//! The signature of a callback: `t=<unix seconds>,v1=<hex of HMAC-SHA256 of "<t>.<body>">`.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The header `Gateway-Signature` of a body.
pub fn sign(body: &[u8], secret: &SecretString, now: DateTime<Utc>) -> String {
    let seconds = now.timestamp();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let mut header = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(header, "{byte:02x}").expect("a String takes all text");
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '1700000000.{"id":"ev_1"}' | openssl dgst -sha256 -hmac secret`
    #[test]
    fn a_signature_is_the_hmac_of_the_time_and_the_body() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        assert_eq!(
            sign(br#"{"id":"ev_1"}"#, &"secret".into(), now),
            "t=1700000000,v1=1915525c911a1c0872f0c0eab5a384a7871d95252a59e53498bda952e3e0df5c"
        );
    }
}
