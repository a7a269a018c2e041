//! Lists that Keap pages by its own tokens alone, gone through from end to end.
//!
//! A token may be the position behind its page. What goes, or moves within the order, between two pages then shifts another record over
//! the border, so that it lies on none of them. Such a list is gone through until two passes have met the same records with the same times
//! of change. That suffices: a record that a pass missed stood behind one which that pass had met and which was deleted or changed before
//! the page of the missed one was read. The next pass meets that one with another time, or not at all.

use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::run::ListPass;
use keapsync_domain::timestamp::Timestamp;

/// How far a list has been gone through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    /// What this pass and the one before have met.
    pub(crate) pass: ListPass,
    /// Keap's token of the page to read; none for the first one.
    pub(crate) token: Option<String>,
}

/// What comes behind a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Another page of the same pass.
    Page,
    /// All of it once more: what this pass brought may lack records.
    Pass,
    /// Nothing: the pass that ends here met everything.
    Nothing,
}

impl Walk {
    /// Takes what a page of `what` held, the ids with the times of change, and its token; and goes on to what is to be read next.
    pub(crate) fn step<'r>(
        &mut self,
        met: impl Iterator<Item = (&'r str, Option<Timestamp>)>,
        next_token: Option<String>,
        what: &str,
    ) -> Result<Behind, Failure> {
        let met = met.fold(self.pass.met, |sum, (id, changed_at)| sum.wrapping_add(spread(id, changed_at)));
        if let Some(next_token) = next_token {
            if self.token.as_ref() == Some(&next_token) {
                return Err(Failure::new(
                    FailureClass::Unexpected,
                    format!(
                        "Keap sent a page of {what} whose next page is itself; the list cannot be read on"
                    ),
                ));
            }
            self.pass.met = met;
            self.token = Some(next_token);
            return Ok(Behind::Page);
        }
        // One answer is of one moment.
        if self.token.is_none() || self.pass.before == Some(met) {
            return Ok(Behind::Nothing);
        }
        self.pass = ListPass { number: self.pass.number + 1, met: 0, before: Some(met) };
        self.token = None;
        Ok(Behind::Pass)
    }
}

/// A record as a number of which sums tell sets apart: FNV-1a, whose last bytes are then spread over all bits (the finisher of
/// `MurmurHash3`), because sums of neighbouring ids would be equal otherwise.
fn spread(id: &str, changed_at: Option<Timestamp>) -> u32 {
    let time = changed_at.map(|moment| moment.0.to_be_bytes());
    let bytes = id.bytes().chain([0]).chain(time.into_iter().flatten());
    let hash = bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through a list of `(id, time)` in pages of two by position; `between` changes it before each page but
    /// the very first, and is told the pass and the position.
    fn met(
        mut list: Vec<(&'static str, i64)>,
        mut between: impl FnMut(u32, usize, &mut Vec<(&'static str, i64)>),
    ) -> (u32, Vec<&'static str>) {
        let (mut walk, mut last_pass) = (Walk::default(), Vec::new());
        loop {
            let from: usize = walk.token.as_deref().map_or(0, |token| token.parse().unwrap());
            if walk != Walk::default() {
                between(walk.pass.number, from, &mut list);
            }
            let page: Vec<_> = list.iter().skip(from).take(2).copied().collect();
            last_pass.extend(page.iter().map(|(id, _)| *id));
            let token = (list.len() > from + 2).then(|| (from + 2).to_string());
            let held = page.iter().map(|(id, time)| (*id, Some(Timestamp(*time))));
            match walk.step(held, token, "tags").unwrap() {
                Behind::Page => {}
                Behind::Pass => last_pass.clear(),
                Behind::Nothing => return (walk.pass.number + 1, last_pass),
            }
        }
    }

    const LIST: [(&str, i64); 4] = [("1", 1), ("2", 2), ("3", 3), ("4", 4)];

    #[test]
    fn two_passes_that_met_the_same_end_it() {
        assert_eq!(met(LIST.to_vec(), |_, _, _| {}), (2, vec!["1", "2", "3", "4"]));
        assert_eq!(met(LIST[..2].to_vec(), |_, _, _| {}), (1, vec!["1", "2"]));
    }

    #[test]
    fn a_record_that_slid_over_the_border_is_met_by_a_further_pass() {
        // The first one is deleted, and the third slides.
        let (passes, last) = met(LIST.to_vec(), |pass, _, list| {
            if pass == 0 {
                list.retain(|(id, _)| *id != "1");
            }
        });
        assert_eq!((passes, last), (3, vec!["2", "3", "4"]));
    }

    #[test]
    fn passes_that_miss_the_same_record_are_told_from_complete_ones() {
        // Each of the first passes has another record move from the front to the end, so that all of them meet "1", "2", "4" and twice
        // the one that moved, or the same ids in another place; the third is missed each time.
        let mut now = 10;
        let (_, last) = met(LIST.to_vec(), |pass, from, list| {
            if pass < 3 && from == 2 {
                let at = list.iter().position(|(id, _)| *id != "3").unwrap();
                let (id, _) = list.remove(at);
                now += 1;
                list.push((id, now));
            }
        });
        let mut last = last;
        last.sort_unstable();
        assert_eq!(last, ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_record_that_goes_to_and_fro_is_known_by_its_time() {
        // The first one is renamed to the end between the pages, and back before the next pass: both meet the same ids, without the third.
        let mut now = 10;
        let (passes, last) = met(LIST.to_vec(), |pass, from, list| {
            if pass < 2 {
                now += 1;
                list.retain(|(id, _)| *id != "1");
                list.insert(if from == 0 { 0 } else { 3 }, ("1", now));
            }
        });
        assert_eq!((passes, last), (4, vec!["2", "3", "4", "1"]));
    }

    #[test]
    fn a_token_that_leads_to_itself_is_no_list() {
        let mut walk = Walk { token: Some("2".to_owned()), ..Walk::default() };
        let failure = walk.step(std::iter::empty(), Some("2".to_owned()), "tags").unwrap_err();
        assert_eq!(failure.class, FailureClass::Unexpected);
    }

    #[test]
    fn sums_tell_neighbouring_ids_apart() {
        let sum = |ids: [&str; 2]| ids.iter().fold(0_u32, |sum, id| sum.wrapping_add(spread(id, None)));
        assert_ne!(sum(["11", "14"]), sum(["12", "13"]));
        assert_ne!(spread("1", Some(Timestamp(1))), spread("1", Some(Timestamp(2))));
    }
}
