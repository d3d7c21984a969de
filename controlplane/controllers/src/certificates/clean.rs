//! Removes requests that nobody needs any more: an hour after they were answered, a day after they were not.

use std::convert::Infallible;
use std::time::Duration;

use client::{Client, Clock, DeleteOptions, Informer, OptionalExt, kinds};
use jiff::{SignedDuration, Timestamp};

use super::{APPROVED, DENIED, FAILED, Request, requests};
use crate::Context;

const PERIOD: Duration = Duration::from_secs(3600);
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Whether a request is done with.
fn is_over(request: &Request, now: Timestamp) -> bool {
    let older = |since: Option<Timestamp>, than| since.is_some_and(|since| now.duration_since(since) > than);
    let had = |kind, than| {
        request
            .condition(kind)
            .is_some_and(|condition| older(condition.last_update_time, than))
    };
    let unanswered = request.status.conditions.is_empty() && older(request.metadata.creation_timestamp, PENDING);
    let ended = |approved: bool| match &request.status.certificate {
        Some(issued) => approved && issued.until.is_some_and(|until| now > until) || had(APPROVED, ANSWERED),
        None => had(APPROVED, PENDING),
    };
    had(DENIED, ANSWERED) || had(FAILED, ANSWERED) || unanswered || ended(request.is(APPROVED))
}

pub(crate) async fn run(context: Context) {
    let requests = requests(&context).await;
    match clean_for_ever(&context.client, &requests, &context.config.clock).await {}
}

async fn clean_for_ever(client: &Client, requests: &Informer<Request>, clock: &Clock) -> Infallible {
    loop {
        let now = clock.now();
        let all = requests.snapshot();
        for (key, request) in all.iter().filter(|(_, request)| is_over(request, now)) {
            let options = DeleteOptions::of_uid(&request.metadata.uid);
            let removed = client
                .delete(&kinds::CERTIFICATE_SIGNING_REQUEST, key, &options)
                .await
                .optional();
            if let Err(error) = removed {
                tracing::debug!(request = %key, error = &error as &dyn std::error::Error, "cannot remove");
            }
        }
        drop(all);
        tokio::time::sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn over(conditions: Value, certificate: Value, hours: i64) -> bool {
        let request: Request = serde_json::from_value(json!({
            "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": conditions, "certificate": certificate}}))
        .unwrap();
        let start: Timestamp = "2026-01-01T00:00:01Z".parse().unwrap();
        is_over(&request, start + SignedDuration::from_hours(hours))
    }

    #[test]
    fn a_request_goes_an_hour_after_its_answer_and_a_day_without_one() {
        let had = |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}]);
        let none = Value::Null;
        assert!(!over(json!([]), none.clone(), 23) && over(json!([]), none.clone(), 24));
        assert!(!over(had("Denied"), none.clone(), 0) && over(had("Denied"), none.clone(), 1));
        assert!(over(had("Failed"), none.clone(), 1));
        assert!(!over(had("Approved"), none.clone(), 23) && over(had("Approved"), none, 24));
        assert!(!over(had("Approved"), json!("eA=="), 0) && over(had("Approved"), json!("eA=="), 1));
        assert!(!over(had("Other"), json!("eA=="), 99));
    }

    #[test]
    fn a_certificate_that_has_ended_is_done_with_at_once() {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2025, 1, 1);
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let field = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
        let approved = json!([{"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}]);
        assert!(over(approved, json!(field), 0));
    }
}
