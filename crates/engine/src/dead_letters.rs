//! Dead letters as people meet them: in groups of one cause, each with what to do about it.

use keapsync_domain::failure::FailureClass;
use serde::Serialize;
use std::fmt;

/// Which way something was going that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From Keap: an event, or a record that could not be applied.
    Inbound,
    /// To Keap: an edit.
    Outbound,
}

impl Way {
    /// The name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// A group: what went one way and failed for one cause. Written `inbound:invalid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Which way.
    pub way: Way,
    /// The failure's class; `unknown` where none was noted.
    pub cause: String,
}

impl Group {
    /// The group of a cause.
    #[must_use]
    pub fn of(way: Way, cause: Option<&str>) -> Self {
        Self { way, cause: cause.unwrap_or(UNKNOWN).to_owned() }
    }

    /// Reads `inbound:invalid`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (way, cause) = text.split_once(':')?;
        let way = [Way::Inbound, Way::Outbound].into_iter().find(|known| known.as_str() == way)?;
        let is_known = cause == UNKNOWN || CAUSES.iter().any(|class| class.as_str() == cause);
        is_known.then(|| Self { way, cause: cause.to_owned() })
    }

    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        let class = CAUSES.into_iter().find(|class| class.as_str() == self.cause);
        match (self.way, class) {
            (Way::Inbound, Some(FailureClass::Invalid)) => {
                "Keap's record, or its answer about it, does not fit: read the messages, mend the records in Keap, and replay the group. \
                 Records that nobody needs can be discarded: a later change of one, or the next full run, looks at it again"
            }
            (Way::Outbound, Some(FailureClass::Invalid)) => {
                "Keap refuses the values: read the messages, correct the rows and replay the group, or undo the edits \
                 (POST /audit/{id}/revert)"
            }
            (Way::Inbound, Some(FailureClass::NotFound)) => {
                "Keap has no such record any more: discard the group, or replay it to look once more"
            }
            (Way::Outbound, Some(FailureClass::NotFound)) => {
                "Keap has no such record any more: undo the edits (POST /audit/{id}/revert), or make the record anew and replay"
            }
            (_, Some(FailureClass::Unauthorized)) => {
                "Keap did not let us: connect the account again (POST /oauth/initiate), then replay the group"
            }
            (_, Some(FailureClass::Unavailable | FailureClass::RateLimited | FailureClass::Conflict)) => {
                "it was a passing failure: replay the group"
            }
            (_, Some(FailureClass::Unexpected)) => {
                "Keap's answers made no sense, several times: replay one of the group; if it fails again, report its message as a fault"
            }
            (_, None) => "the cause was not noted: replay one of the group to learn it",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.way.as_str(), self.cause)
    }
}

/// Said of a letter whose cause was not noted.
const UNKNOWN: &str = "unknown";

const CAUSES: [FailureClass; 7] = [
    FailureClass::Unavailable,
    FailureClass::RateLimited,
    FailureClass::Unauthorized,
    FailureClass::Conflict,
    FailureClass::Invalid,
    FailureClass::NotFound,
    FailureClass::Unexpected,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn groups_are_written_and_read() {
        for way in [Way::Inbound, Way::Outbound] {
            for cause in CAUSES.map(|class| Some(class.as_str())).into_iter().chain([None]) {
                let group = Group::of(way, cause);
                assert_eq!(Group::parse(&group.to_string()), Some(group.clone()));
                assert!(!group.fix().is_empty());
            }
        }
        for odd in
            ["", "invalid", "inbound", "inbound:", "inbound:sorrow", "sideways:invalid", "inbound:invalid:x"]
        {
            assert_eq!(Group::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_a_person_has_to_mend_is_told_apart_by_way() {
        for class in [FailureClass::Invalid, FailureClass::NotFound] {
            let fixes: BTreeSet<&str> =
                [Way::Inbound, Way::Outbound].map(|way| Group::of(way, Some(class.as_str())).fix()).into();
            assert_eq!(fixes.len(), 2);
        }
    }
}
