//! What is posted, and its signature, as Standard Webhooks has them.

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use stampede_shared::{
    domain::webhook::SECRET_PREFIX,
    store::{webhook_deliveries::Due, webhook_endpoints::Target},
};
use uuid::Uuid;

/// The body of an event: the same for each try and each endpoint.
pub fn body(show_id: Uuid, due: &Due) -> Vec<u8> {
    let mut data = json!({
        "show_id": show_id,
        "sequence": due.sequence,
        "request_id": due.request_id,
        "booking_id": due.booking_id,
    });
    if let (Some(data), Value::Object(told)) = (data.as_object_mut(), &due.data) {
        data.extend(told.clone());
    }
    let body = json!({
        "type": due.event_type,
        "timestamp": due.created_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "data": data,
    });
    serde_json::to_vec(&body).expect("a JSON value can be written")
}

/// The header `webhook-signature`: one signature for each secret that is in use.
pub fn signatures(
    target: &Target,
    event_id: Uuid,
    sent_at: DateTime<Utc>,
    body: &[u8],
) -> anyhow::Result<String> {
    let mut signatures = sign(&target.secret, event_id, sent_at, body)?;
    if let Some(previous) = &target.previous_secret {
        signatures.push(' ');
        signatures.push_str(&sign(previous, event_id, sent_at, body)?);
    }
    Ok(signatures)
}

fn sign(
    secret: &str,
    event_id: Uuid,
    sent_at: DateTime<Utc>,
    body: &[u8],
) -> anyhow::Result<String> {
    let key = secret
        .strip_prefix(SECRET_PREFIX)
        .context("a webhook's secret has no prefix")?;
    let key = BASE64_STANDARD
        .decode(key)
        .context("a webhook's secret is not base64")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).context("a webhook's secret is no key")?;
    mac.update(format!("{event_id}.{}.", sent_at.timestamp()).as_bytes());
    mac.update(body);
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    Ok(format!("v1,{signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn target(previous_secret: Option<&str>) -> Target {
        Target {
            url: "https://example.com".to_owned(),
            secret: SECRET.to_owned(),
            previous_secret: previous_secret.map(str::to_owned),
            failing: false,
        }
    }

    #[test]
    fn a_signature_is_what_another_implementation_makes() {
        // printf '%s' "$id.$timestamp.$body" | openssl dgst -sha256 -binary \
        //   -mac HMAC -macopt hexkey:$(printf MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | base64 -d | od -An -tx1 | tr -d ' \n')  | base64
        let sent_at = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        let signed = signatures(
            &target(None),
            Uuid::nil(),
            sent_at,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signed.unwrap(),
            "v1,Y5/uRWupLQOPxe4D5mBYrd9dRGhY+xtWrnxDwy59WDE="
        );
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let sign = |target: &Target| signatures(target, Uuid::nil(), DateTime::UNIX_EPOCH, b"{}");
        let both = sign(&target(Some("whsec_AAAA"))).unwrap();
        let (new, old) = both.split_once(' ').unwrap();
        assert_eq!(new, sign(&target(None)).unwrap());
        assert!(old.starts_with("v1,") && old != new);
    }

    #[test]
    fn a_body_has_what_the_event_says_beside_what_it_is_about() {
        let due = Due {
            delivery_id: Uuid::nil(),
            attempts: 0,
            sequence: 7,
            event_id: Uuid::nil(),
            event_type: "sale.state_changed".to_owned(),
            request_id: None,
            booking_id: None,
            data: json!({"to": "paused"}),
            created_at: DateTime::UNIX_EPOCH,
        };
        let body: Value = serde_json::from_slice(&body(Uuid::nil(), &due)).unwrap();
        let expected = json!({
            "type": "sale.state_changed",
            "timestamp": "1970-01-01T00:00:00.000000Z",
            "data": {
                "show_id": Uuid::nil(), "sequence": 7, "request_id": null, "booking_id": null,
                "to": "paused",
            },
        });
        assert_eq!(body, expected);
    }
}
