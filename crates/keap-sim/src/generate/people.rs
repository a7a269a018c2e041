//! One invented contact, with the gaps and the untidiness of a real list.

use serde_json::Value;

use super::{FIRST_MS, LAST_MS, moment, words};
use crate::clock;
use crate::data::Data;
use crate::data::apply::{e164, is_opt_in};
use crate::data::contact::{
    Address, Company, Contact, CustomFieldValue, EmailAddress, FaxNumber, Origin, PhoneNumber, SocialAccount,
    UtmParameters,
};
use crate::data::regions;
use crate::random::Random;

/// A contact without id, times and tags.
pub(crate) fn contact(data: &mut Data, random: &mut Random, create_ms: i64) -> Contact {
    let given_name = random.word(words::GIVEN_NAMES).to_owned();
    let family_name = random.word(words::FAMILY_NAMES).to_owned();
    let place = random.pick(words::PLACES).copied().unwrap_or_default();
    let emails = emails(random, &given_name, &family_name);
    let phones = phones(random, place.2, emails.is_empty());
    let company = random.chance(45).then(|| company(data, random));
    let source_type = random.word(&["WEBFORM", "MANUAL", "IMPORT", "API", "LANDING_PAGE"]).to_owned();
    Contact {
        preferred_name: random.chance(10).then(|| given_name.chars().take(4).collect()),
        given_name: random.chance(97).then_some(given_name),
        family_name: random.chance(94).then_some(family_name),
        middle_name: random.chance(12).then(|| random.word(words::GIVEN_NAMES).to_owned()),
        prefix: random.chance(10).then(|| random.word(words::PREFIXES).to_owned()),
        suffix: random.chance(4).then(|| random.word(words::SUFFIXES).to_owned()),
        spouse_name: random.chance(8).then(|| random.word(words::GIVEN_NAMES).to_owned()),
        job_title: company.is_some().then(|| random.word(words::JOB_TITLES).to_owned()),
        website: random.chance(15).then(|| format!("https://site-{}.example", random.below(9000))),
        company,
        contact_type: random.chance(70).then(|| random.word(words::CONTACT_TYPES).to_owned()),
        owner_id: random.chance(60).then(|| (1 + random.below(4) * 2).to_string()),
        leadsource_id: random.chance(55).then(|| (3 + random.below(8) * 3).to_string()),
        source_type: Some(source_type),
        preferred_locale: random.chance(80).then(|| "en_US".to_owned()),
        time_zone: random.chance(65).then(|| random.word(words::TIME_ZONES).to_owned()),
        referral_code: random.chance(6).then(|| format!("REF{:06}", random.below(1_000_000))),
        score_value: random.chance(70).then(|| random.below(101).to_string()),
        anniversary_date: random.chance(6).then(|| date(random, FIRST_MS - YEARS_20_MS, LAST_MS)),
        birth_date: random.chance(18).then(|| date(random, -YEARS_20_MS, FIRST_MS - YEARS_20_MS)),
        origin: random.chance(30).then(|| origin(random, create_ms)),
        addresses: addresses(random, place),
        custom_fields: custom_fields(data, random),
        social_accounts: random.chance(8).then(|| social(random)),
        fax_numbers: random.chance(3).then(|| vec![fax(random)]),
        utm_parameters: random.chance(10).then(|| vec![utm(data, random, create_ms)]),
        created_by: Some("1".to_owned()),
        last_updated_by: Some("1".to_owned()),
        phone_numbers: (!phones.is_empty()).then_some(phones),
        email_addresses: (!emails.is_empty()).then_some(emails),
        ..Contact::default()
    }
}

const YEARS_20_MS: i64 = 20 * 365 * 86_400_000;

fn emails(random: &mut Random, given_name: &str, family_name: &str) -> Vec<EmailAddress> {
    if random.chance(12) {
        return Vec::new();
    }
    let plain =
        |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let (given, family) = (plain(given_name), plain(family_name));
    // Few numbers and few domains: some people share an address, as couples and offices do.
    let local = match (given.is_empty(), family.is_empty(), random.below(4)) {
        (false, false, 0) => format!("{given}.{family}{}", random.below(3000)),
        (false, _, 1) => format!("{given}{}", random.below(30_000)),
        (_, false, 2) => format!("{family}{}", random.below(30_000)),
        _ => format!("customer{}", random.below(60_000)),
    };
    let address = format!("{local}@{}", random.word(words::DOMAINS));
    // Some were typed with capitals.
    let address = if random.chance(6) { address.to_uppercase() } else { address };
    let mut items = vec![email(random, address, "EMAIL1")];
    if random.chance(9) {
        let second = format!("office{}@{}", random.below(60_000), random.word(words::DOMAINS));
        items.push(email(random, second, "EMAIL2"));
    }
    items
}

fn email(random: &mut Random, address: String, field: &str) -> EmailAddress {
    let status = match random.below(100) {
        0..55 => "SINGLE_OPT_IN",
        55..75 => "DOUBLE_OPT_IN",
        75..85 => "UNENGAGED_MARKETABLE",
        85..92 => "NON_MARKETABLE",
        92..96 => "LIST_UNSUBSCRIBE",
        96..99 => "HARD_BOUNCE",
        _ => "SPAM",
    };
    EmailAddress {
        email: Some(address),
        field: Some(field.to_owned()),
        opt_in_reason: (status == "SINGLE_OPT_IN").then(|| "Subscribed on the website".to_owned()),
        is_opt_in: Some(is_opt_in(status)),
        email_opt_status: Some(status.to_owned()),
    }
}

fn phones(random: &mut Random, country_code: &str, is_only_way: bool) -> Vec<PhoneNumber> {
    if !is_only_way && random.chance(18) {
        return Vec::new();
    }
    let count = if random.chance(25) { 2 } else { 1 };
    (1_u32..=count)
        .map(|slot| {
            let number = messy_number(random, country_code);
            PhoneNumber {
                number_e164: e164(&number),
                number: Some(number),
                extension: random.chance(5).then(|| (100 + random.below(900)).to_string()),
                kind: random.chance(75).then(|| random.word(&["Mobile", "Work", "Home", "Other"]).to_owned()),
                field: Some(format!("PHONE{slot}")),
            }
        })
        .collect()
}

fn messy_number(random: &mut Random, country_code: &str) -> String {
    let line = 100 + random.below(100);
    if !matches!(country_code, "USA" | "CAN") {
        return format!("+44 20 7946 0{}", 100 + random.below(900));
    }
    let area = random.word(&["480", "602", "623", "928", "520", "619", "303"]);
    match random.below(8) {
        0 => format!("{area}-555-0{line}"),
        1 => format!("{area}.555.0{line}"),
        2 => format!("{area}5550{line}"),
        3 => format!("+1 {area} 555 0{line}"),
        4 => format!("1-{area}-555-0{line} x{}", 10 + random.below(90)),
        5 => format!("555-0{line}"),
        6 => format!(" ({area}) 555-0{line} "),
        _ => format!("({area}) 555-0{line}"),
    }
}

fn fax(random: &mut Random) -> FaxNumber {
    FaxNumber {
        number: Some(format!("(480) 555-0{}", 100 + random.below(100))),
        kind: Some("Work".to_owned()),
        field: Some("FAX1".to_owned()),
    }
}

fn company(data: &mut Data, random: &mut Random) -> Company {
    let name = random.word(words::COMPANIES);
    let id = data.companies.id_of(name);
    Company { id: Some(id.to_string()), company_name: data.companies.name(id).map(str::to_owned) }
}

fn addresses(random: &mut Random, place: (&str, &str, &str, &str)) -> Option<Vec<Address>> {
    if random.chance(22) {
        return None;
    }
    let mut items = vec![address(random, "BILLING", place)];
    if random.chance(20) {
        let other = random.pick(words::PLACES).copied().unwrap_or(place);
        items.push(address(random, "SHIPPING", other));
    }
    Some(items)
}

fn address(random: &mut Random, field: &str, place: (&str, &str, &str, &str)) -> Address {
    let (locality, region_code, country_code, postal) = place;
    let postal_code =
        if country_code == "USA" { format!("{postal}{:02}", random.below(100)) } else { postal.to_owned() };
    Address {
        field: Some(field.to_owned()),
        line1: Some(format!("{} {}", 1 + random.below(9900), random.word(words::STREETS))),
        line2: random.chance(18).then(|| format!("Apt {}", 1 + random.below(400))),
        locality: Some(locality.to_owned()),
        region: regions::region_name(region_code).map(str::to_owned),
        region_code: Some(region_code.to_owned()),
        country: regions::country_name(country_code).map(str::to_owned),
        country_code: Some(country_code.to_owned()),
        zip_code: (country_code == "USA").then(|| postal_code.clone()),
        zip_four: (country_code == "USA" && random.chance(20))
            .then(|| format!("{:04}", random.below(10_000))),
        postal_code: Some(postal_code),
    }
}

fn custom_fields(data: &Data, random: &mut Random) -> Option<Vec<CustomFieldValue>> {
    let mut items = Vec::new();
    for field in data.model.fields() {
        let content = match field.field_type.as_str() {
            "DROPDOWN" if random.chance(60) => Value::from(random.word(words::SERVICES)),
            "WHOLE_NUMBER" if random.chance(60) => Value::from(random.below(200)),
            "CURRENCY" if random.chance(35) => {
                let cents = u32::try_from(random.below(2_000_000)).unwrap_or(0);
                Value::from(f64::from(cents) / 100.0)
            }
            "DATE" if random.chance(40) => Value::from(date(random, FIRST_MS, LAST_MS)),
            "YES_NO" if random.chance(50) => Value::from(random.chance(50)),
            "LIST_BOX" if random.chance(25) => {
                Value::from(vec![random.word(words::INTERESTS), "Water saving"])
            }
            "TEXT_AREA" if random.chance(25) => Value::from(random.word(words::NOTES)),
            "TEXT" if random.chance(30) => Value::from(format!("EXT-{:07}", random.below(10_000_000))),
            _ => continue,
        };
        items.push(CustomFieldValue { id: field.id.clone(), content });
    }
    (!items.is_empty()).then_some(items)
}

fn social(random: &mut Random) -> Vec<SocialAccount> {
    vec![SocialAccount {
        name: Some(format!("@garden_{}", random.below(10_000))),
        kind: random.word(&["FACEBOOK", "INSTAGRAM", "LINKED_IN", "TWITTER"]).to_owned(),
    }]
}

fn origin(random: &mut Random, create_ms: i64) -> Origin {
    Origin {
        date: Some(clock::format_ms(create_ms)),
        ip_address: Some(format!("203.0.113.{}", 1 + random.below(254))),
    }
}

fn utm(data: &mut Data, random: &mut Random, create_ms: i64) -> UtmParameters {
    UtmParameters {
        id: data.contacts.take_utm_id(),
        keap_source_id: Some(format!("60883832246{:05}", random.below(100_000))),
        utm_source: Some(random.word(&["google", "facebook", "newsletter"]).to_owned()),
        utm_medium: Some(random.word(&["cpc", "email", "social"]).to_owned()),
        utm_campaign: random.chance(70).then(|| "spring_planting".to_owned()),
        first_touch: true,
        last_touch: true,
        date_created: Some(clock::format_ms(create_ms)),
        ..UtmParameters::default()
    }
}

fn date(random: &mut Random, from_ms: i64, until_ms: i64) -> String {
    clock::format_ms(moment(random, from_ms, until_ms)).chars().take(10).collect()
}
