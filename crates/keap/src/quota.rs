//! What Keap's answers say about its quotas: headers, and the body of a 429.
//!
//! Values arrive blank on unauthenticated answers, pipe-delimited for tenants (`minute|day`), and joined by commas when a
//! gateway on the way sets a header twice; the end of the day in seconds or in milliseconds. So everything is optional, what
//! makes no sense is left out, and nothing is taken for a limit of zero, which would stop an account for good.

use crate::failure::retry_after_ms;
use crate::transport::Response;
use keapsync_domain::quota::{QuotaReading, Throttle, ThrottleKind, WindowReading};
use keapsync_domain::timestamp::Timestamp;

/// Length of a minute's window, in milliseconds.
const MINUTE_MS: i64 = 60_000;

/// Length of a day's window, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// Windows that one family of headers tells of at most.
const PARTS_MAX: usize = 4;

/// A moment written as a smaller number is in seconds: in milliseconds it would lie before 1973.
const MILLISECONDS_MIN: i64 = 100_000_000_000;

/// The tenant (Keap application) that an answer is of; `None` where it does not say.
#[must_use]
pub fn tenant(response: &Response) -> Option<&str> {
    response.header("x-keap-tenant-id").map(str::trim).filter(|name| !name.is_empty())
}

/// Reads what an answer says about the quotas.
#[must_use]
pub fn reading(response: &Response) -> QuotaReading {
    let header = |name: &str| response.header(name).unwrap_or_default();
    let (mut minute, mut day) = (WindowReading::default(), WindowReading::default());
    let (mut tenant_minute, mut tenant_day) = (WindowReading::default(), WindowReading::default());
    take_windows(response, "x-keap-product-quota", &[DAY_MS], &mut minute, &mut day);
    take_windows(response, "x-keap-product-throttle", &[MINUTE_MS], &mut minute, &mut day);
    take_windows(
        response,
        "x-keap-tenant-throttle",
        &[MINUTE_MS, DAY_MS],
        &mut tenant_minute,
        &mut tenant_day,
    );
    let mut reading = QuotaReading {
        spike_limit: per_second(header("x-keap-product-spike-limit")),
        minute,
        day,
        day_resets_at: moment(header("x-keap-product-quota-expiry-time")),
        tenant_minute,
        tenant_day,
        throttle: None,
    };
    if response.status == 429 {
        reading.throttle = Some(Throttle {
            kind: throttle_kind(&response.body, &reading),
            retry_after_ms: retry_after_ms(response),
        });
    }
    reading
}

/// Reads the windows of one family of headers, part by part; `usual_ms` are the lengths where none is given.
fn take_windows(
    response: &Response,
    family: &str,
    usual_ms: &[i64],
    minute: &mut WindowReading,
    day: &mut WindowReading,
) {
    let parts = |suffix: &str| -> Vec<String> {
        let text = response.header(&format!("{family}-{suffix}")).unwrap_or_default();
        text.split('|').map(|part| part.trim().to_owned()).collect()
    };
    let (units, intervals) = (parts("time-unit"), parts("interval"));
    let (limits, left, used) = (parts("limit"), parts("available"), parts("used"));
    for position in 0..limits.len().max(left.len()).min(PARTS_MAX) {
        let part = |of: &[String]| of.get(position).and_then(|text| number(text));
        let limit = part(&limits).filter(|limit| *limit > 0);
        let available =
            part(&left).or_else(|| limit.zip(part(&used)).map(|(limit, used)| limit.saturating_sub(used)));
        let unit_ms = units.get(position).filter(|unit| !unit.is_empty()).map(|unit| unit_ms(unit));
        let length_ms = match unit_ms {
            None => usual_ms.get(position).copied(),
            Some(unit_ms) => unit_ms.map(|unit_ms| {
                unit_ms.saturating_mul(part(&intervals).filter(|count| *count > 0).map_or(1, i64::from))
            }),
        };
        match length_ms {
            Some(MINUTE_MS) => *minute = WindowReading { limit, available },
            Some(DAY_MS) => *day = WindowReading { limit, available },
            // A window that nobody keeps here.
            _ => {}
        }
    }
}

fn unit_ms(unit: &str) -> Option<i64> {
    match unit.to_ascii_lowercase().trim_end_matches('s') {
        "second" => Some(1_000),
        "minute" => Some(MINUTE_MS),
        "hour" => Some(60 * MINUTE_MS),
        "day" => Some(DAY_MS),
        _ => None,
    }
}

/// A count: whole, not below zero, not above what fits. Of several, joined by commas, the first.
fn number(text: &str) -> Option<u32> {
    let text = text.split(',').next()?.trim();
    let value: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is clamped to what fits before the cast"
    )]
    value.is_finite().then(|| value.clamp(0.0, f64::from(u32::MAX)) as u32)
}

/// A rate per second: a bare number, or as gateways write it, `25ps` or `1500pm`.
fn per_second(text: &str) -> Option<u32> {
    let text = text.split(['|', ',']).next()?.trim().to_ascii_lowercase();
    let rate = match text.strip_suffix("pm") {
        Some(per_minute) => number(per_minute)? / 60,
        None => number(text.strip_suffix("ps").unwrap_or(&text))?,
    };
    (rate > 0).then_some(rate)
}

fn moment(text: &str) -> Option<Timestamp> {
    let text = text.split(['|', ',']).next()?.trim();
    let value: i64 = text.parse().ok().filter(|value| *value > 0)?;
    Some(Timestamp(if value < MILLISECONDS_MIN { value.saturating_mul(1_000) } else { value }))
}

/// Whom a 429 slows down. The gateway's fault names the credential's limits; the other form is the application's, unless
/// the headers say that the credential has nothing left.
fn throttle_kind(body: &[u8], reading: &QuotaReading) -> ThrottleKind {
    let text = String::from_utf8_lossy(body.get(..body.len().min(4_096)).unwrap_or_default());
    if text.contains("SpikeArrest") || text.contains("Spike arrest") {
        ThrottleKind::Spike
    } else if text.contains("QuotaViolation") {
        ThrottleKind::Quota
    } else if [reading.minute.available, reading.day.available]
        .iter()
        .all(|left| left.is_some_and(|left| left > 0))
    {
        ThrottleKind::Tenant
    } else {
        ThrottleKind::Quota
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        Response {
            status,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    fn window(limit: u32, available: u32) -> WindowReading {
        WindowReading { limit: Some(limit), available: Some(available) }
    }

    #[test]
    fn reads_what_keap_sends() {
        let response = answer(
            200,
            &[
                ("x-keap-product-quota-limit", "150000"),
                ("x-keap-product-quota-time-unit", "day"),
                ("x-keap-product-quota-interval", "1"),
                ("x-keap-product-quota-available", "149000"),
                ("x-keap-product-quota-used", "1000"),
                ("x-keap-product-quota-expiry-time", "1795219200000"),
                ("x-keap-product-throttle-limit", "1500"),
                ("x-keap-product-throttle-time-unit", "minute"),
                ("x-keap-product-throttle-interval", "1"),
                ("x-keap-product-throttle-available", "1499"),
                ("x-keap-product-spike-limit", "25"),
                ("x-keap-tenant-throttle-limit", "10000|250000"),
                ("x-keap-tenant-throttle-time-unit", "minute|day"),
                ("x-keap-tenant-throttle-interval", "1|1"),
                ("x-keap-tenant-throttle-available", "9999|200000"),
            ],
            "",
        );
        let expected = QuotaReading {
            spike_limit: Some(25),
            minute: window(1_500, 1_499),
            day: window(150_000, 149_000),
            day_resets_at: Some(Timestamp(1_795_219_200_000)),
            tenant_minute: window(10_000, 9_999),
            tenant_day: window(250_000, 200_000),
            throttle: None,
        };
        assert_eq!(reading(&response), expected);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let names = [
            "x-keap-product-quota-limit",
            "x-keap-product-quota-available",
            "x-keap-product-quota-expiry-time",
        ];
        for text in ["", " ", "|", "many", "NaN", "inf", "1e", "--1"] {
            let headers: Vec<(&str, &str)> = names.iter().map(|name| (*name, text)).collect();
            assert_eq!(reading(&answer(200, &headers, "")), QuotaReading::default(), "{text:?}");
        }
        let one = |name: &str, text: &str| reading(&answer(200, &[(name, text)], ""));
        let left = "x-keap-product-throttle-available";
        for (text, expected) in
            [("-5", 0), ("9|8", 9), (" 7 ", 7), ("6, 6", 6), ("5.0", 5), ("99999999999999999999", u32::MAX)]
        {
            assert_eq!(one(left, text).minute.available, Some(expected), "{text:?}");
        }
        for text in ["0", "-1"] {
            assert_eq!(one("x-keap-product-throttle-limit", text).minute.limit, None, "{text:?}");
        }
        for (text, expected) in
            [("25", Some(25)), ("25ps", Some(25)), ("1500pm", Some(25)), ("0", None), ("", None)]
        {
            assert_eq!(one("x-keap-product-spike-limit", text).spike_limit, expected, "{text:?}");
        }
        for text in ["1795219200", "1795219200000"] {
            let expected = Some(Timestamp(1_795_219_200_000));
            assert_eq!(one("x-keap-product-quota-expiry-time", text).day_resets_at, expected, "{text:?}");
        }
    }

    #[test]
    fn windows_go_by_their_length_and_not_by_their_place() {
        let response = answer(
            200,
            &[
                ("x-keap-tenant-throttle-limit", "250000|10000"),
                ("x-keap-tenant-throttle-time-unit", "DAY|minutes"),
                ("x-keap-tenant-throttle-used", "50000|1"),
            ],
            "",
        );
        let told = reading(&response);
        assert_eq!((told.tenant_minute, told.tenant_day), (window(10_000, 9_999), window(250_000, 200_000)));
        let hourly = [("x-keap-product-throttle-limit", "9"), ("x-keap-product-throttle-time-unit", "hour")];
        assert_eq!(reading(&answer(200, &hourly, "")), QuotaReading::default());
    }

    #[test]
    fn a_429_says_whom_it_slows_down() {
        let spike = r#"{"fault":{"faultstring":"Spike arrest violation. Allowed rate : MessageRate{}","detail":{"errorcode":"policies.ratelimit.SpikeArrestViolation"}}}"#;
        let quota =
            r#"{"fault":{"faultstring":"x","detail":{"errorcode":"policies.ratelimit.QuotaViolation"}}}"#;
        let tenant =
            r#"{"code":"429","message":"Quota Exceeded","status":"Request Throttled","details":null}"#;
        let left = [("x-keap-product-throttle-available", "9"), ("x-keap-product-quota-available", "9")];
        for (headers, body, kind) in [
            (&[][..], spike, ThrottleKind::Spike),
            (&[][..], quota, ThrottleKind::Quota),
            (&left[..], tenant, ThrottleKind::Tenant),
            (&[][..], tenant, ThrottleKind::Quota),
            (&[][..], "", ThrottleKind::Quota),
        ] {
            assert_eq!(
                reading(&answer(429, headers, body)).throttle.map(|throttle| throttle.kind),
                Some(kind)
            );
        }
        let waits = [("retry-after", "3")];
        let throttle = reading(&answer(429, &waits, spike)).throttle;
        assert_eq!(throttle.and_then(|throttle| throttle.retry_after_ms), Some(3_000));
    }

    proptest! {
        #[test]
        fn no_header_brings_it_down(texts in prop::collection::vec("[-0-9a-z|,. ]{0,24}", 18), body in ".{0,40}") {
            let names = ["limit", "time-unit", "interval", "available", "used", "expiry-time"];
            let families = ["x-keap-product-quota", "x-keap-product-throttle", "x-keap-tenant-throttle"];
            let headers = families.iter().flat_map(|family| names.iter().map(move |name| format!("{family}-{name}")));
            let response = Response { status: 429, headers: headers.zip(texts).collect(), body: body.into_bytes() };
            let told = reading(&response);
            for window in [told.minute, told.day, told.tenant_minute, told.tenant_day] {
                prop_assert!(window.limit != Some(0));
            }
        }
    }
}
