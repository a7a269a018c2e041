//! Countries and regions as Keap keeps them: codes are sent, long names are stored and returned beside them.
//!
//! Only the countries and regions that the generated data uses are named; a valid code outside this list is kept as
//! it is, without a long name.

/// ISO 3166-1 alpha-3 code and name.
const COUNTRIES: &[(&str, &str)] = &[
    ("USA", "United States"),
    ("CAN", "Canada"),
    ("GBR", "United Kingdom"),
    ("AUS", "Australia"),
    ("NZL", "New Zealand"),
    ("DEU", "Germany"),
    ("FRA", "France"),
    ("ESP", "Spain"),
    ("ITA", "Italy"),
    ("NLD", "Netherlands"),
    ("SWE", "Sweden"),
    ("DNK", "Denmark"),
    ("NOR", "Norway"),
    ("POL", "Poland"),
    ("BRA", "Brazil"),
    ("MEX", "Mexico"),
    ("JPN", "Japan"),
    ("IND", "India"),
    ("ZAF", "South Africa"),
    ("IRL", "Ireland"),
];

/// ISO 3166-2 code and name.
const REGIONS: &[(&str, &str)] = &[
    ("US-AL", "Alabama"),
    ("US-AK", "Alaska"),
    ("US-AZ", "Arizona"),
    ("US-AR", "Arkansas"),
    ("US-CA", "California"),
    ("US-CO", "Colorado"),
    ("US-CT", "Connecticut"),
    ("US-DE", "Delaware"),
    ("US-FL", "Florida"),
    ("US-GA", "Georgia"),
    ("US-HI", "Hawaii"),
    ("US-ID", "Idaho"),
    ("US-IL", "Illinois"),
    ("US-IN", "Indiana"),
    ("US-IA", "Iowa"),
    ("US-KS", "Kansas"),
    ("US-KY", "Kentucky"),
    ("US-LA", "Louisiana"),
    ("US-ME", "Maine"),
    ("US-MD", "Maryland"),
    ("US-MA", "Massachusetts"),
    ("US-MI", "Michigan"),
    ("US-MN", "Minnesota"),
    ("US-MS", "Mississippi"),
    ("US-MO", "Missouri"),
    ("US-MT", "Montana"),
    ("US-NE", "Nebraska"),
    ("US-NV", "Nevada"),
    ("US-NH", "New Hampshire"),
    ("US-NJ", "New Jersey"),
    ("US-NM", "New Mexico"),
    ("US-NY", "New York"),
    ("US-NC", "North Carolina"),
    ("US-ND", "North Dakota"),
    ("US-OH", "Ohio"),
    ("US-OK", "Oklahoma"),
    ("US-OR", "Oregon"),
    ("US-PA", "Pennsylvania"),
    ("US-RI", "Rhode Island"),
    ("US-SC", "South Carolina"),
    ("US-SD", "South Dakota"),
    ("US-TN", "Tennessee"),
    ("US-TX", "Texas"),
    ("US-UT", "Utah"),
    ("US-VT", "Vermont"),
    ("US-VA", "Virginia"),
    ("US-WA", "Washington"),
    ("US-WV", "West Virginia"),
    ("US-WI", "Wisconsin"),
    ("US-WY", "Wyoming"),
    ("US-DC", "District of Columbia"),
    ("CA-AB", "Alberta"),
    ("CA-BC", "British Columbia"),
    ("CA-MB", "Manitoba"),
    ("CA-NB", "New Brunswick"),
    ("CA-NL", "Newfoundland and Labrador"),
    ("CA-NS", "Nova Scotia"),
    ("CA-ON", "Ontario"),
    ("CA-PE", "Prince Edward Island"),
    ("CA-QC", "Québec"),
    ("CA-SK", "Saskatchewan"),
    ("AU-NSW", "New South Wales"),
    ("AU-QLD", "Queensland"),
    ("AU-SA", "South Australia"),
    ("AU-TAS", "Tasmania"),
    ("AU-VIC", "Victoria"),
    ("AU-WA", "Western Australia"),
    ("GB-ENG", "England"),
    ("GB-SCT", "Scotland"),
    ("GB-WLS", "Wales"),
    ("GB-NIR", "Northern Ireland"),
    ("BR-SP", "São Paulo"),
    ("BR-RJ", "Rio de Janeiro"),
    ("DE-BY", "Bayern"),
    ("DE-BE", "Berlin"),
    ("MX-JAL", "Jalisco"),
];

/// The name of the country of that alpha-3 code.
pub(crate) fn country_name(code: &str) -> Option<&'static str> {
    COUNTRIES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

/// The name of the region of that code.
pub(crate) fn region_name(code: &str) -> Option<&'static str> {
    REGIONS.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

/// The code of the region of that long name.
pub(crate) fn region_code(name: &str) -> Option<&'static str> {
    REGIONS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(code, _)| *code)
}

/// Whether the text has the form of an alpha-3 country code.
pub(crate) fn is_country_code(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}
