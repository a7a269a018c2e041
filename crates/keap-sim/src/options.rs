//! What the simulator can be told at start, by the command line or by a test.

use std::net::{Ipv4Addr, SocketAddr};

use crate::data::money::Currency;
use crate::generate::Size;
use crate::query::page::PageTokens;

/// How the simulator runs. Every field has the default of Keap itself where Keap has one.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "KEAP_SIM_LISTEN", default_value_t = Options::default().listen)]
    pub listen: SocketAddr,
    /// Seed of the generated data.
    #[arg(long, default_value_t = Options::default().seed)]
    pub seed: u64,
    /// Contacts to generate in the tenant `demo`; other tenants begin without contacts.
    #[arg(long, default_value_t = Options::default().contacts)]
    pub contacts: u32,
    /// Orders to generate in `demo`; 2 for each contact up to 20,000 when not given.
    #[arg(long)]
    pub orders: Option<u32>,
    /// Subscriptions to generate in `demo`; 4 for 10 contacts up to 4,000 when not given.
    #[arg(long)]
    pub subscriptions: Option<u32>,
    /// Currency of every tenant until it is seeded with another: USD, EUR, GBP, CAD, AUD, JPY (no decimals) or KWD
    /// (three).
    #[arg(long, default_value_t = Options::default().currency, value_parser = parse_currency)]
    pub currency: String,
    /// Divides every delay of the hook delivery policy; 300 makes 30 s into 0.1 s.
    #[arg(long, default_value_t = Options::default().time_scale, value_parser = parse_time_scale)]
    pub time_scale: f64,
    /// How long a hook receiver may take to answer. Not scaled: it bounds real work of the receiver.
    #[arg(long, default_value_t = Options::default().hook_answer_timeout_ms)]
    pub hook_answer_timeout_ms: u64,
    /// Adds `contact_details` with the contact's id to `contactGroup.applied` and `.removed` deliveries.
    #[arg(long)]
    pub tag_hooks_name_contacts: bool,
    /// Page tokens name the last row of their page, so that nothing that changes meanwhile shifts the next one. By default they are
    /// positions.
    #[arg(long)]
    pub stable_page_tokens: bool,
    /// The OAuth client's id.
    #[arg(long, default_value_t = Options::default().client_id)]
    pub client_id: String,
    /// The OAuth client's secret.
    #[arg(long, default_value_t = Options::default().client_secret)]
    pub client_secret: String,
    /// Lifetime of an access token in seconds.
    #[arg(long, default_value_t = Options::default().access_token_ttl_s)]
    pub access_token_ttl_s: u64,
    /// Calls one OAuth client may make in any second, over all tenants.
    #[arg(long, default_value_t = Options::default().calls_per_second)]
    pub calls_per_second: u32,
    /// Calls one OAuth client may make in any minute, over all tenants.
    #[arg(long, default_value_t = Options::default().calls_per_minute)]
    pub calls_per_minute: u32,
    /// Calls one OAuth client may make in a UTC day, over all tenants.
    #[arg(long, default_value_t = Options::default().calls_per_day)]
    pub calls_per_day: u32,
    /// Calls one tenant takes in any minute, over all credentials.
    #[arg(long, default_value_t = Options::default().tenant_calls_per_minute)]
    pub tenant_calls_per_minute: u32,
    /// Calls one tenant takes in a UTC day, over all credentials.
    #[arg(long, default_value_t = Options::default().tenant_calls_per_day)]
    pub tenant_calls_per_day: u32,
    /// Refuses nothing for quota; calls are still counted and the headers still sent.
    #[arg(long)]
    pub no_quota: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8900)),
            seed: 1,
            contacts: 0,
            orders: None,
            subscriptions: None,
            currency: "USD".to_owned(),
            time_scale: 1.0,
            hook_answer_timeout_ms: 30_000,
            tag_hooks_name_contacts: false,
            stable_page_tokens: false,
            client_id: "demo-client".to_owned(),
            client_secret: "demo-secret".to_owned(),
            access_token_ttl_s: 86_400,
            calls_per_second: 25,
            calls_per_minute: 1_500,
            calls_per_day: 150_000,
            tenant_calls_per_minute: 10_000,
            tenant_calls_per_day: 250_000,
            no_quota: false,
        }
    }
}

impl Options {
    /// What to generate in `demo`.
    pub(crate) fn size(&self) -> Size {
        Size::new(self.contacts, self.orders, self.subscriptions)
    }

    /// What page tokens are made of.
    pub(crate) const fn page_tokens(&self) -> PageTokens {
        if self.stable_page_tokens { PageTokens::Places } else { PageTokens::Positions }
    }

    /// The currency of tenants; a library's caller who names an unknown one gets the default.
    pub(crate) fn currency(&self) -> Currency {
        Currency::parse(&self.currency).unwrap_or_default()
    }
}

fn parse_currency(text: &str) -> Result<String, String> {
    match Currency::parse(text) {
        Some(currency) => Ok(currency.code.to_owned()),
        None => Err(format!("give one of {}", Currency::codes())),
    }
}

fn parse_time_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale.is_finite() && scale > 0.0 => Ok(scale),
        _ => Err("give a number above 0, such as 300".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_scale_must_be_a_positive_number() {
        assert_eq!(parse_time_scale("300"), Ok(300.0));
        for text in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(parse_time_scale(text).is_err(), "{text}");
        }
    }
}
