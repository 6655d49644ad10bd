//! Checks who signed a callback: `t=<unix seconds>,v1=<hex>`, the scheme of Stripe and of the simulated gateway.
//!
//! `v1` is the HMAC-SHA256 of `<t>.<body>`. A header may carry several, and entries of other schemes,
//! which say nothing. The time is signed too, so an old callback cannot be sent again under a new time.

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::gateway::CallbackError;

/// How far the signed time may be from ours, to both sides: clocks differ, and old callbacks are not believed.
const TOLERANCE_SECONDS: u64 = 300;

/// More than any gateway sends; the rest of a longer header is not looked at.
const SIGNATURES_MAX: usize = 16;

/// The bytes of an HMAC-SHA256.
type Tag = [u8; 32];

/// Whether one of `secrets` signed `body` not more than 300 seconds from `now`.
///
/// Signatures are compared in constant time. Whoever knows no secret learns only
/// [`CallbackError::WrongSignature`], whatever the time says.
pub fn check(
    header: &str,
    body: &[u8],
    secrets: &[SecretString],
    now: DateTime<Utc>,
) -> Result<(), CallbackError> {
    let (signed_at, tags) = parse(header).ok_or(CallbackError::NoSignature)?;
    let known = secrets
        .iter()
        .any(|secret| tags.iter().any(|tag| signs(secret, signed_at, body, tag)));
    if !known {
        return Err(CallbackError::WrongSignature);
    }
    let signed_at: i64 = signed_at.parse().map_err(|_| CallbackError::TooOld)?;
    if now.timestamp().abs_diff(signed_at) > TOLERANCE_SECONDS {
        return Err(CallbackError::TooOld);
    }
    Ok(())
}

fn signs(secret: &SecretString, signed_at: &str, body: &[u8], tag: &Tag) -> bool {
    // An empty secret is one that anybody knows.
    if secret.expose_secret().is_empty() {
        return false;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("an HMAC takes a key of any length");
    mac.update(signed_at.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(tag).is_ok()
}

/// The time as it was signed, letter by letter, and the signatures of our scheme.
fn parse(header: &str) -> Option<(&str, Vec<Tag>)> {
    let mut signed_at = None;
    let mut tags = Vec::new();
    for entry in header.split(',') {
        let (scheme, value) = entry.trim().split_once('=')?;
        match scheme {
            "t" if signed_at.is_none() && is_number(value) => signed_at = Some(value),
            // Two times, or one that is no number: nobody signs that.
            "t" => return None,
            "v1" if tags.len() < SIGNATURES_MAX => tags.push(unhex(value)?),
            _ => {}
        }
    }
    (!tags.is_empty()).then_some((signed_at?, tags))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn unhex(text: &str) -> Option<Tag> {
    let mut tag = Tag::default();
    if text.len() != 2 * tag.len() {
        return None;
    }
    for (byte, digits) in tag.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"ev_1"}"#;
    const SIGNED_AT: i64 = 1_780_000_000;

    fn hex(secret: &str, signed_at: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{signed_at}.").as_bytes());
        mac.update(body);
        let tag = mac.finalize().into_bytes();
        tag.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn header(secret: &str) -> String {
        format!("t={SIGNED_AT},v1={}", hex(secret, SIGNED_AT, BODY))
    }

    fn check_after(header: &str, body: &[u8], seconds: i64) -> Result<(), CallbackError> {
        let secrets = ["new secret", "old secret"].map(SecretString::from);
        let now = DateTime::from_timestamp(SIGNED_AT + seconds, 0).unwrap();
        check(header, body, &secrets, now)
    }

    fn check_now(header: &str) -> Result<(), CallbackError> {
        check_after(header, BODY, 0)
    }

    #[test]
    fn the_signature_is_the_hmac_of_the_time_a_dot_and_the_body() {
        // printf '1780000000.{"id":"ev_1"}' | openssl dgst -sha256 -hmac 'new secret'
        let expected = "804c45b1efeb39f3c7f5fa966d5759784009873707ef5e86db3fa586d785feff";
        assert_eq!(hex("new secret", SIGNED_AT, BODY), expected);
        assert_eq!(check_now(&format!("t={SIGNED_AT},v1={expected}")), Ok(()));
    }

    #[test]
    fn either_secret_will_do_while_one_is_being_replaced() {
        assert_eq!(check_now(&header("new secret")), Ok(()));
        assert_eq!(check_now(&header("old secret")), Ok(()));
    }

    #[test]
    fn one_good_signature_among_several_is_enough() {
        let wrong = hex("someone else's", SIGNED_AT, BODY);
        let right = hex("old secret", SIGNED_AT, BODY);
        let both = format!("t={SIGNED_AT},v1={wrong},v1={right}");
        assert_eq!(check_now(&both), Ok(()));
        let other_way_round = format!("v1={right}, v1={wrong}, t={SIGNED_AT}");
        assert_eq!(check_now(&other_way_round), Ok(()));
    }

    #[test]
    fn a_stranger_s_signature_is_wrong() {
        let forged = header("someone else's");
        assert_eq!(check_now(&forged), Err(CallbackError::WrongSignature));
    }

    #[test]
    fn a_tampered_body_is_wrong() {
        let answer = check_after(&header("new secret"), br#"{"id":"ev_2"}"#, 0);
        assert_eq!(answer, Err(CallbackError::WrongSignature));
    }

    #[test]
    fn another_time_than_the_signed_one_is_wrong() {
        let tag = hex("new secret", SIGNED_AT, BODY);
        for time in [format!("{}", SIGNED_AT + 1), format!("0{SIGNED_AT}")] {
            let answer = check_now(&format!("t={time},v1={tag}"));
            assert_eq!(answer, Err(CallbackError::WrongSignature), "{time}");
        }
    }

    #[test]
    fn three_hundred_seconds_to_either_side_are_tolerated_and_no_more() {
        let header = header("new secret");
        for seconds in [-300, 300] {
            assert_eq!(check_after(&header, BODY, seconds), Ok(()), "{seconds}");
        }
        for seconds in [-301, 301] {
            let answer = check_after(&header, BODY, seconds);
            assert_eq!(answer, Err(CallbackError::TooOld), "{seconds}");
        }
    }

    #[test]
    fn a_time_beyond_all_clocks_is_too_old() {
        let tag = hex("new secret", i64::MAX, BODY);
        let answer = check_now(&format!("t={},v1={tag}", i64::MAX));
        assert_eq!(answer, Err(CallbackError::TooOld));
    }

    #[test]
    fn an_old_forgery_is_a_forgery() {
        let answer = check_after(&header("someone else's"), BODY, 1_000);
        assert_eq!(answer, Err(CallbackError::WrongSignature));
    }

    #[test]
    fn other_schemes_say_nothing() {
        let tag = hex("new secret", SIGNED_AT, BODY);
        let only_v0 = format!("t={SIGNED_AT},v0={tag}");
        assert_eq!(check_now(&only_v0), Err(CallbackError::NoSignature));
        let with_v0 = format!("t={SIGNED_AT},v0=nonsense,v1={tag},v2=");
        assert_eq!(check_now(&with_v0), Ok(()));
    }

    #[test]
    fn a_header_that_cannot_be_read_is_no_signature() {
        let tag = hex("new secret", SIGNED_AT, BODY);
        let headers = [
            String::new(),
            "nonsense".to_owned(),
            format!("t={SIGNED_AT}"),
            format!("t={SIGNED_AT},v1="),
            format!("v1={tag}"),
            format!("t=,v1={tag}"),
            format!("t=-5,v1={tag}"),
            format!("t=now,v1={tag}"),
            format!("t={SIGNED_AT},t={SIGNED_AT},v1={tag}"),
            format!("t={SIGNED_AT},v1={tag}00"),
            format!("t={SIGNED_AT},v1={}", &tag[2..]),
            format!("t={SIGNED_AT},v1=zz{}", &tag[2..]),
            format!("t={SIGNED_AT},v1=é{}", &tag[2..]),
            format!("t={SIGNED_AT};v1={tag}"),
        ];
        for header in headers {
            let answer = check_now(&header);
            assert_eq!(answer, Err(CallbackError::NoSignature), "{header}");
        }
    }

    #[test]
    fn without_a_secret_nothing_is_believed() {
        let now = DateTime::from_timestamp(SIGNED_AT, 0).unwrap();
        let header = header("");
        let empty = [SecretString::from("")];
        let (none, wrong) = (&[][..], Err(CallbackError::WrongSignature));
        assert_eq!(check(&header, BODY, none, now), wrong);
        assert_eq!(check(&header, BODY, &empty, now), wrong);
    }

    #[test]
    fn a_flood_of_signatures_is_cut_off() {
        let mut header = format!("t={SIGNED_AT}");
        for _ in 0..SIGNATURES_MAX {
            header += &format!(",v1={}", hex("someone else's", SIGNED_AT, BODY));
        }
        header += &format!(",v1={}", hex("new secret", SIGNED_AT, BODY));
        assert_eq!(check_now(&header), Err(CallbackError::WrongSignature));
    }
}
