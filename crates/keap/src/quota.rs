//! What Keap's headers say about the quota.
//!
//! Values arrive blank on unauthenticated answers and pipe-delimited for tenants, so everything is optional and the
//! first number counts.

use crate::transport::Response;
use serde::{Deserialize, Serialize};

/// Calls left, as Keap counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReading {
    /// Calls left today for the credential.
    pub day_available: Option<i64>,
    /// Calls left this minute for the credential.
    pub minute_available: Option<i64>,
}

/// Reads the quota headers of an answer.
#[must_use]
pub fn reading(response: &Response) -> QuotaReading {
    QuotaReading {
        day_available: number(response.header("x-keap-product-quota-available")),
        minute_available: number(response.header("x-keap-product-throttle-available")),
    }
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.split('|').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_piped_values_are_survived() {
        let response = |available: &str| Response {
            status: 200,
            headers: vec![("x-keap-product-quota-available".to_owned(), available.to_owned())],
            body: Vec::new(),
        };
        for (text, expected) in [("149000", Some(149_000)), ("", None), ("9|8", Some(9)), ("many", None)] {
            assert_eq!(reading(&response(text)).day_available, expected);
        }
    }
}
